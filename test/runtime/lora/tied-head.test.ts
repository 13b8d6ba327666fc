/** An output head of its own, on a model whose head is tied to its embeddings: PEFT's logits, and no change for others. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { ModelRunner } from '../../../src/runtime/engine/model-runner.ts';
import { targetsOf } from '../../../src/runtime/lora/lora-targets.ts';
import type { LoraWeights, WeightedAdapter } from '../../../src/runtime/lora/lora-weights.ts';
import { loadRunner } from '../../../src/runtime/models/load-runner.ts';
import type { T5Config } from '../../../src/runtime/models/model-config.ts';
import { readAdapter } from '../../../src/runtime/peft/read-adapter.ts';
import { SafetensorsFile } from '../../../src/storage/safetensors.ts';
import { type Asked, EngineHarness } from '../../support/engine-harness.ts';
import { forward, largestDifference } from '../../support/forced-tokens.ts';
import { oracleTest, readJsonFile, repositoryPath, sharedPath } from '../../support/oracle.ts';
import { parseT5Config } from '../../support/t5-config.ts';

const FIXTURE = repositoryPath('test/fixtures/t5-relu-tied');
const TOLERANCE = 1e-4;

interface ExpectedRow {
  readonly inputIds: readonly number[];
  readonly decoderInputIds: readonly number[];
  /** [decoder tokens][vocabulary] */
  readonly logits: readonly (readonly number[])[];
  readonly greedy: readonly number[];
}

function configOf(folder: string): T5Config {
  return parseT5Config(readJsonFile<Record<string, unknown>>(join(folder, 'config.json')));
}

async function readWeights(folder: string, adapterFolder: string): Promise<LoraWeights> {
  const base = { modelFolder: folder, config: configOf(folder) };
  return (await readAdapter(adapterFolder, base, { maxRank: 256 })).weights;
}

/** The model's embeddings, which are its head, times a factor. */
async function embeddingsTimes(folder: string, factor: number): Promise<LoraWeights> {
  const file = await SafetensorsFile.open(join(folder, 'model.safetensors'));
  try {
    return { factors: [], head: (await file.read('shared.weight')).map((value) => value * factor) };
  } finally {
    await file.close();
  }
}

async function runnerWith(
  t: Pick<TestContext, 'after'>,
  folder: string,
  adapters: ReadonlyMap<string, LoraWeights>,
): Promise<ModelRunner> {
  const targets = targetsOf(adapters.values());
  const config = configOf(folder);
  const { runner } = await loadRunner({ modelFolder: folder, config, threadCount: 2, targets }, () => {});
  t.after(() => runner.dispose());
  for (const [key, weights] of adapters) runner.addAdapter(key, weights);
  return runner;
}

function alone(key: string): readonly WeightedAdapter[] {
  return [{ key, weight: 1 }];
}

test("logits and tokens of a replaced tied head are PEFT's: the decoder's output stays scaled", async (t) => {
  const weights = await readWeights(FIXTURE, join(FIXTURE, 'adapters/whole-head'));
  assert.ok(weights.head !== undefined);
  const runner = await runnerWith(t, FIXTURE, new Map([['whole', weights]]));
  const rows = readJsonFile<readonly ExpectedRow[]>(join(FIXTURE, 'expected/whole-head.json'));
  const actual = await forward(
    runner,
    rows.map((row) => ({ ...row, adapters: alone('whole') })),
  );
  for (const [index, { logits }] of rows.entries()) {
    for (const [step, row] of logits.entries()) {
      const difference = largestDifference(actual[index]?.[step] ?? [], row);
      assert.ok(difference <= TOLERANCE, `row ${index}, token ${step}: ${difference}`);
    }
  }
  const asked = rows.map(
    ({ inputIds, greedy }, index): Asked => ({
      id: `${index}`,
      promptTokenIds: inputIds,
      options: { maxNewTokens: greedy.length, minNewTokens: greedy.length },
      adapters: alone('whole'),
    }),
  );
  const harness = await EngineHarness.runAll(runner, asked);
  assert.deepEqual(
    asked.map(({ id }) => harness.tokenIds(id)[0]),
    rows.map(({ greedy }) => greedy),
  );
});

test('the embeddings as a head of its own are the tied head, and twice the embeddings give twice the logits', async (t) => {
  const adapters = new Map([
    ['same', await embeddingsTimes(FIXTURE, 1)],
    ['twice', await embeddingsTimes(FIXTURE, 2)],
  ]);
  const runner = await runnerWith(t, FIXTURE, adapters);
  const row = { inputIds: [3, 40, 77, 12], decoderInputIds: [0, 33, 2] };
  const [base = [], same = [], twice = []] = await forward(runner, [
    row,
    { ...row, adapters: alone('same') },
    { ...row, adapters: alone('twice') },
  ]);
  for (const [step, logits] of base.entries()) {
    assert.ok(largestDifference(same[step] ?? [], [...logits]) <= TOLERANCE);
    assert.deepEqual(
      twice[step],
      same[step]?.map((value) => 2 * value),
    );
  }
});

/** Base rows of every strategy, with and without rows of the adapter that come while they run. */
async function assertBaseUnchanged(runner: ModelRunner, key: string): Promise<void> {
  const prompts = [
    [3, 40, 77, 12, 9],
    [60, 8, 8, 19],
    [25, 33, 41],
  ];
  const options = [
    { maxNewTokens: 20, minNewTokens: 20 },
    { maxNewTokens: 16, minNewTokens: 12, numBeams: 3, numReturnSequences: 2 },
    { maxNewTokens: 18, minNewTokens: 18, doSample: true, seed: 3 },
  ];
  const base = prompts.flatMap((promptTokenIds, prompt) =>
    options.map((one, index): Asked => ({ id: `base ${prompt} ${index}`, promptTokenIds, options: one })),
  );
  const expected = await EngineHarness.runAll(runner, base);
  const adapted = prompts.flatMap((promptTokenIds, prompt) =>
    options.map(
      (one, index): Asked => ({ id: `adapted ${prompt} ${index}`, promptTokenIds, options: one, adapters: alone(key) }),
    ),
  );
  const late = [...adapted];
  const harness: EngineHarness = new EngineHarness(runner, {}, () => {
    const next = late.pop();
    if (next !== undefined) harness.submit(next);
  });
  for (const one of base) harness.submit(one);
  await harness.drain();
  const shared = harness.traces.filter(({ rows }) => {
    const ids = rows.map(({ requestId }) => requestId);
    return ids.some((id) => id.startsWith('base')) && ids.some((id) => id.startsWith('adapted'));
  });
  assert.ok(shared.length > 10, `${shared.length} steps had rows of both kinds`);
  for (const { id } of base) {
    assert.deepEqual(harness.outputs.get(id)?.sequences, expected.outputs.get(id)?.sequences, id);
  }
  for (const one of adapted) {
    const single = await EngineHarness.runAll(runner, [one]);
    assert.deepEqual(harness.outputs.get(one.id)?.sequences, single.outputs.get(one.id)?.sequences, one.id);
    const own = one.id.replace('adapted', 'base');
    assert.notDeepEqual(harness.tokenIds(one.id), expected.tokenIds(own), one.id);
  }
}

test('rows of the model keep every bit while rows with another head come and go beside them', async (t) => {
  const weights = await readWeights(FIXTURE, join(FIXTURE, 'adapters/whole-head'));
  await assertBaseUnchanged(await runnerWith(t, FIXTURE, new Map([['whole', weights]])), 'whole');
});

oracleTest(
  "rows of an untied model keep every bit beside the oracle's replaced head",
  'oracle/models/t5-gated-untied/adapters/lora-head',
  async (adapterFolder) => {
    const folder = sharedPath('oracle/models/t5-gated-untied');
    const closing: (() => Promise<void>)[] = [];
    const keep = { after: (close: () => Promise<void>) => void closing.push(close) };
    const weights = await readWeights(folder, adapterFolder);
    try {
      await assertBaseUnchanged(await runnerWith(keep as never, folder, new Map([['head', weights]])), 'head');
    } finally {
      for (const close of closing) await close();
    }
  },
);
