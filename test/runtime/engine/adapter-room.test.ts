/** Adapters come into a worker's memory and leave it: who waits, who fails, and what stays behind. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { ModelRunner } from '../../../src/runtime/engine/model-runner.ts';
import type { LoraFactors, LoraWeights } from '../../../src/runtime/lora/lora-weights.ts';
import { memoryOf, openTinyModel } from '../../support/adapted-runner.ts';
import { type Asked, EngineHarness } from '../../support/engine-harness.ts';
import { randomAdapter } from '../../support/random-adapters.ts';

const TARGETS = ['q', 'v', 'o'];
const MODEL = { gated: true, config: { vocab_size: 120 } };

/** Runners over one model; `ranks` are those of adapters by key. */
async function setUp(t: TestContext, ranks: Readonly<Record<string, number>>) {
  const { config, load } = await openTinyModel(t, MODEL);
  const adapters = new Map<string, LoraWeights>(
    Object.entries(ranks).map(([key, rank], seed) => [key, randomAdapter(config, { seed, rank, targets: TARGETS })]),
  );
  return { config, load, adapters };
}

function ask(
  id: string,
  key: string | undefined,
  steps = 6,
  promptTokenIds: readonly number[] = [5, 40, 77, 12],
): Asked {
  return {
    id,
    promptTokenIds,
    options: { maxNewTokens: steps, minNewTokens: steps },
    adapters: key === undefined ? [] : [{ key, weight: 1 }],
  };
}

async function assertAsAlone(harness: EngineHarness, asked: readonly Asked[], reference: ModelRunner): Promise<void> {
  for (const one of asked) {
    const alone = await EngineHarness.runAll(reference, [one]);
    assert.deepEqual(harness.outputs.get(one.id)?.sequences, alone.outputs.get(one.id)?.sequences, one.id);
  }
}

/** The ids of the requests of each step. */
function stepsOf(harness: EngineHarness): readonly (readonly string[])[] {
  return harness.traces.map(({ rows }) => rows.map(({ requestId }) => requestId));
}

test('who finds no room beside what runs is passed by those that do, and comes when there is room', async (t) => {
  const { config, load, adapters } = await setUp(t, { first: 64, second: 64, narrow: 4 });
  const runner = await load(adapters, { memory: memoryOf(config, adapters, 6) });
  const asked = [
    ask('first', 'first', 12),
    ask('second', 'second', 4),
    ask('base', undefined, 4),
    ask('narrow', 'narrow', 4),
  ];
  const harness = new EngineHarness(runner);
  for (const one of asked) harness.submit(one);
  await harness.drain();
  const together = (one: string, other: string): boolean =>
    stepsOf(harness).some((ids) => ids.includes(one) && ids.includes(other));
  assert.ok(together('first', 'base') && together('first', 'narrow'));
  assert.ok(!together('first', 'second'));
  await assertAsAlone(harness, asked, await load(adapters));
});

test('cold adapters of requests that come to an idle engine join in the same step, however many pieces they take', async (t) => {
  const { config, load, adapters } = await setUp(t, { one: 112, two: 40, three: 16 });
  const runner = await load(adapters, { memory: memoryOf(config, adapters, 100) });
  const harness = new EngineHarness(runner);
  for (const key of adapters.keys()) harness.submit(ask(key, key));
  await harness.drain();
  assert.deepEqual(stepsOf(harness)[0], ['one', 'two', 'three']);
});

test('beside a running request a cold adapter comes piece by piece, and no step waits for it', async (t) => {
  const { config, load, adapters } = await setUp(t, { warm: 8, cold: 112 });
  const runner = await load(adapters, { memory: memoryOf(config, adapters, 100) });
  const harness = new EngineHarness(runner);
  harness.submit(ask('warm', 'warm', 30));
  await harness.engine.step();
  harness.submit(ask('cold', 'cold'));
  await harness.drain();
  const joined = stepsOf(harness).findIndex((ids) => ids.includes('cold'));
  // seven units of the encoder and seven of the decoder, one a step
  assert.ok(joined > 7 && joined < 20, `it joined in step ${joined}`);
});

test('an adapter that cannot be prepared fails its own requests, whoever runs beside them', async (t) => {
  const { load, adapters } = await setUp(t, { good: 8, bad: 20 });
  const runner = await load(adapters);
  const broken = runner.combine([{ key: 'bad', weight: 1 }]);
  const failing: ModelRunner = Object.create(runner, {
    prepare: {
      value: (...args: Parameters<ModelRunner['prepare']>) => {
        if (args[0] === broken) throw new RangeError('Array buffer allocation failed');
        return runner.prepare(...args);
      },
    },
  });
  const good = [ask('good', 'good', 8), ask('base', undefined, 8), ask('late', 'good')];
  const harness = new EngineHarness(failing);
  for (const one of [good[0] as Asked, ask('bad1', 'bad'), good[1] as Asked]) harness.submit(one);
  await harness.engine.step();
  harness.submit(ask('bad2', 'bad'));
  harness.submit(good[2] as Asked);
  await harness.drain({ mayFail: true });
  assert.deepEqual([...harness.failures.keys()], ['bad1', 'bad2']);
  for (const failure of harness.failures.values()) assert.ok(failure instanceof RangeError);
  await assertAsAlone(harness, good, await load(adapters));
});

/** The same adapter with values that are no numbers at every second place. */
function withHoles({ factors, head }: LoraWeights): LoraWeights {
  const holes = (values: Float32Array): Float32Array =>
    values.map((value, index) => (index % 2 === 0 ? Number.NaN : value));
  return { factors: factors.map((one): LoraFactors => ({ ...one, a: holes(one.a), b: holes(one.b) })), head };
}

test('numbers that are none, of an adapter that had the place before, reach no adapter that comes after it', async (t) => {
  const { config, load, adapters } = await setUp(t, { broken: 16, narrow: 3, wide: 20 });
  const broken = withHoles(adapters.get('broken') as LoraWeights);
  const all = new Map([...adapters, ['broken', broken]]);
  const runner = await load(all, { memory: memoryOf(config, adapters, 2) });
  const reference = await load(adapters);
  for (const key of ['narrow', 'wide', 'narrow']) {
    const failed = new EngineHarness(runner);
    failed.submit(ask('broken', 'broken'));
    await failed.drain({ mayFail: true });
    assert.equal((failed.failures.get('broken') as { code?: string }).code, 'INVALID_ADAPTER');
    await assertAsAlone(await EngineHarness.runAll(runner, [ask(key, key)]), [ask(key, key)], reference);
  }
});

test('numbers that are none, in a source that had the cache slot before, reach no shorter source that comes after it', async (t) => {
  const { load, adapters } = await setUp(t, { broken: 16, good: 3 });
  const all = new Map([...adapters, ['broken', withHoles(adapters.get('broken') as LoraWeights)]]);
  const runner = await load(all);
  const long = Array.from({ length: 60 }, (_, index) => 3 + index);
  const asked = [ask('long', 'good', 20, long), ask('short', 'good', 6, [7, 9])];
  const harness = new EngineHarness(runner);
  harness.submit(asked[0] as Asked);
  harness.submit(ask('broken', 'broken', 20, long));
  await harness.engine.step();
  assert.deepEqual([...harness.failures.keys()], ['broken']);
  harness.submit(asked[1] as Asked);
  await harness.drain({ mayFail: true });
  assert.deepEqual(stepsOf(harness)[1], ['long', 'short'], 'it has the slot of the one that failed');
  await assertAsAlone(harness, asked, await load(adapters));
});
