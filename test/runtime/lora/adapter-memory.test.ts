/** What a runner keeps of adapters goes with them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { LoraWeights } from '../../../src/runtime/lora/lora-weights.ts';
import type { ModelConfig } from '../../../src/runtime/models/model-config.ts';
import { openTinyModel } from '../../support/adapted-runner.ts';
import { type Asked, EngineHarness } from '../../support/engine-harness.ts';
import { randomAdapter } from '../../support/random-adapters.ts';

const TARGETS = ['q', 'wo', 'lm_head'];
const KEYS = ['factors', 'head'] as const;

/** One with factors of every kind of matrix, one with a head of its own too. */
function makeAdapters(config: ModelConfig): Map<string, LoraWeights> {
  const factors = randomAdapter(config, { seed: 1, rank: 20, targets: TARGETS });
  const head = new Float32Array(config.vocabularySize * config.hiddenSize).fill(0.25);
  return new Map([
    ['factors', factors],
    ['head', { ...randomAdapter(config, { seed: 2, rank: 4, targets: TARGETS }), head }],
  ]);
}

function ask(id: string, ...keys: readonly string[]): Asked {
  return {
    id,
    promptTokenIds: [5, 40, 7],
    options: { maxNewTokens: 4, minNewTokens: 4 },
    adapters: keys.map((key) => ({ key, weight: 1 })),
  };
}

test('nothing of adapters that were unloaded is kept, alone or in blends, and their factors are free', async (t) => {
  const { config, load } = await openTinyModel(t, { gated: true });
  let adapters: Map<string, LoraWeights> | undefined = makeAdapters(config);
  const owned = [...adapters.values()].flatMap(({ factors, head }) => [...factors.map(({ a }) => a), head ?? []]);
  const watched = owned.map((values) => new WeakRef(values));
  owned.length = 0;
  const runner = await load(adapters);
  adapters = undefined;
  assert.equal(runner.adapterBytes, 0);
  await EngineHarness.runAll(runner, [ask('one', 'factors'), ask('two', 'head'), ask('blend', ...KEYS), ask('base')]);
  const all = runner.adapterBytes;
  runner.dropAdapter('head');
  assert.ok(runner.adapterBytes < all);
  runner.dropAdapter('factors');
  // no adapter is one unit for the encoder
  assert.ok(runner.adapterBytes < 20_000, `${runner.adapterBytes} of ${all} bytes are left`);
  await EngineHarness.runAll(runner, [ask('base')]);
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  assert.deepEqual(
    watched.map((one) => one.deref()),
    watched.map(() => undefined),
  );
});

test('an adapter that is cancelled and unloaded in the middle of a step leaves nothing behind it', async (t) => {
  const { config, load } = await openTinyModel(t, { gated: true });
  const runner = await load(makeAdapters(config));
  const harness = new EngineHarness(runner);
  harness.submit(ask('leaves', ...KEYS));
  await harness.engine.step();
  assert.ok(runner.adapterBytes > 0);
  const stepping = harness.engine.step();
  // the decoder's graph has its inputs and waits for its turn; the head comes after it
  await new Promise(setImmediate);
  assert.equal(harness.traces.length, 2);
  harness.engine.cancel('leaves');
  for (const key of KEYS) runner.dropAdapter(key);
  await stepping;
  assert.equal(harness.outputs.get('leaves')?.sequences[0]?.finishReason, 'cancelled');
  assert.equal(runner.adapterBytes, 0);
});
