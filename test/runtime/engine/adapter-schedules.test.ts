/** Whatever comes, leaves and swaps beside a request, with however little memory, it answers what it answers alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { memoryOf, openTinyModel } from '../../support/adapted-runner.ts';
import { checkSchedule, randomAdapters, type ScheduleAccount } from '../../support/adapter-schedule.ts';
import { EngineHarness } from '../../support/engine-harness.ts';
import { randomAdapter } from '../../support/random-adapters.ts';
import type { TinyModelOptions } from '../../support/tiny-model.ts';

const SEED = 20261128;

const MODELS: readonly (readonly [
  string,
  TinyModelOptions & { screened: boolean; adapterCount: number; scheduleCount: number },
])[] = [
  ['tiny, tied head', { config: { vocab_size: 160 }, screened: true, adapterCount: 14, scheduleCount: 9 }],
  [
    // wide enough that onnxruntime cuts its products
    'wide, gated, a head of its own',
    {
      gated: true,
      config: { d_model: 256, d_kv: 32, d_ff: 416, num_heads: 4, vocab_size: 160, num_layers: 1 },
      screened: false,
      adapterCount: 9,
      scheduleCount: 3,
    },
  ],
];

for (const [name, { screened, adapterCount, scheduleCount, ...options }] of MODELS) {
  test(`random schedules of many adapters = each request alone: ${name} (seed ${SEED})`, async (t) => {
    const { config, load } = await openTinyModel(t, options);
    const adapters = randomAdapters(config, adapterCount, SEED);
    const headBytes = config.vocabularySize * config.hiddenSize * Float32Array.BYTES_PER_ELEMENT;
    const { stackBytes, pieceBytes } = memoryOf(config, adapters, 16);
    // so little that what is kept goes out all the time: an adapter and a head or two
    const memory = { stackBytes, pieceBytes, factorBytes: 3 * pieceBytes, headBytes: 2 * headBytes };
    const reference = await load(adapters, { screened });
    const runner = await load(adapters, { screened, memory });
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
  const { config, load } = await openTinyModel(t, {
    gated: true,
    config: { d_model: 64, d_kv: 16, d_ff: 3072, num_heads: 2, vocab_size: 100, num_layers: 1 },
  });
  const weights = randomAdapter(config, { seed: SEED, rank: 16, targets: ['q', 'wo'] });
  const runner = await load(new Map([['one', weights]]), { threadCount: 12 });
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
