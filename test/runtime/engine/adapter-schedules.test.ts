/** Whatever comes, leaves and swaps beside a request, with however little memory, it answers what it answers alone. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { unitBytesOf } from '../../../src/runtime/lora/adapter-units.ts';
import { targetsOf } from '../../../src/runtime/lora/lora-targets.ts';
import { loadT5Runner } from '../../../src/runtime/models/load-t5.ts';
import { readModelFiles } from '../../../src/runtime/models/model-files.ts';
import { t5LinearModules } from '../../../src/runtime/models/t5-modules.ts';
import type { T5Runner } from '../../../src/runtime/models/t5-runner.ts';
import { checkSchedule, randomAdapters, type ScheduleAccount } from '../../support/adapter-schedule.ts';
import { EngineHarness } from '../../support/engine-harness.ts';
import { randomAdapter } from '../../support/random-adapters.ts';
import { type TinyModelOptions, writeTinyModel } from '../../support/tiny-model.ts';

const SEED = 20261128;

async function openModel(t: TestContext, options: TinyModelOptions) {
  const { parent, name } = await writeTinyModel(t, options);
  const { folder: modelFolder, config } = await readModelFiles(`dir:${name}`, { embedded: parent, models: parent });
  const load = async (
    changes: Omit<Parameters<typeof loadT5Runner>[0], 'modelFolder' | 'config'>,
  ): Promise<T5Runner> => {
    const { runner } = await loadT5Runner({ modelFolder, config, ...changes }, () => {});
    t.after(() => runner.dispose());
    return runner;
  };
  return { config, load };
}

const MODELS: readonly (readonly [string, TinyModelOptions & { screened: boolean; scheduleCount: number }])[] = [
  ['tiny, tied head', { config: { vocab_size: 160 }, screened: true, scheduleCount: 9 }],
  [
    // wide enough that onnxruntime cuts its products
    'wide, gated, a head of its own',
    {
      gated: true,
      config: { d_model: 320, d_kv: 40, d_ff: 544, num_heads: 8, vocab_size: 160, num_layers: 1 },
      screened: false,
      scheduleCount: 2,
    },
  ],
];

for (const [name, { screened, scheduleCount, ...options }] of MODELS) {
  test(`random schedules of many adapters = each request alone: ${name} (seed ${SEED})`, async (t) => {
    const { config, load } = await openModel(t, options);
    const adapters = randomAdapters(config, 14, SEED);
    const targets = targetsOf(adapters.values());
    const linear = t5LinearModules(config).filter(({ path }) => targets.modules.has(path));
    const unitBytes = unitBytesOf(linear.map((module) => ({ ...module, hasGain: true })));
    const headBytes = config.vocabularySize * config.hiddenSize * Float32Array.BYTES_PER_ELEMENT;
    // so little that what is kept goes out all the time: an adapter and a head or two
    const memory = {
      stackBytes: 9 * unitBytes,
      factorBytes: 3 * unitBytes,
      headBytes: 2 * headBytes,
      pieceBytes: unitBytes,
    };
    const reference = await load({ threadCount: 2, targets, screened });
    const runner = await load({ threadCount: 2, targets, screened, memory });
    for (const [key, weights] of adapters) for (const one of [reference, runner]) one.addAdapter(key, weights);
    const accounts: ScheduleAccount[] = [];
    for (let seed = SEED; seed < SEED + scheduleCount; seed++) {
      accounts.push(await checkSchedule({ config, adapters, reference, runner, seed }));
    }
    // that it was about something
    for (const count of ['swapCount', 'cancelCount'] as const) {
      assert.ok(
        accounts.some((account) => account[count] > 0),
        count,
      );
    }
    assert.ok(accounts.some(({ mostMixed }) => mostMixed >= 4));
  });
}

test('16 rows of one adapter = each alone, with so many threads that one could be left with a single row', async (t) => {
  const { config, load } = await openModel(t, {
    gated: true,
    config: { d_model: 64, d_kv: 16, d_ff: 3072, num_heads: 2, vocab_size: 100, num_layers: 1 },
  });
  const weights = randomAdapter(config, { seed: SEED, rank: 16, targets: ['q', 'wo'] });
  const runner = await load({ threadCount: 12, targets: targetsOf([weights]) });
  runner.addAdapter('one', weights);
  const requests = Array.from({ length: 16 }, (_, index) => ({
    id: `r${index}`,
    promptTokenIds: [3 + index, 40, 7],
    options: { maxNewTokens: 6, minNewTokens: 6 },
    adapters: [{ key: 'one', weight: 1 }],
  }));
  const together = await EngineHarness.runAll(runner, requests);
  for (const one of requests) {
    const alone = await EngineHarness.runAll(runner, [one]);
    assert.deepEqual(together.outputs.get(one.id)?.sequences, alone.outputs.get(one.id)?.sequences, one.id);
  }
});
