/** What must hold of adapters whoever shares the batch: a request's answer depends on its own adapters alone, bit for bit. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { DecodingOptions } from '../../../src/runtime/decoding/sampling-params.ts';
import type { ModelRunner } from '../../../src/runtime/engine/model-runner.ts';
import { RuntimeError } from '../../../src/runtime/errors.ts';
import { targetsOf } from '../../../src/runtime/lora/lora-targets.ts';
import type { LoraWeights, WeightedAdapter } from '../../../src/runtime/lora/lora-weights.ts';
import type { ModelConfig } from '../../../src/runtime/models/model-config.ts';
import { type Asked, EngineHarness, loadRunner } from '../../support/engine-harness.ts';
import { randomAdapter } from '../../support/random-adapters.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';
import { writeTinyModel } from '../../support/tiny-model.ts';

const SEED = 20261124;
const EVERY = ['q', 'k', 'v', 'o', 'wi_0', 'wi_1', 'wo', 'lm_head'];

/** Wide enough that onnxruntime cuts its products: among threads, and along the inner axis. */
const CONFIG = {
  d_model: 640,
  d_kv: 40,
  d_ff: 544,
  num_heads: 8,
  vocab_size: 160,
  num_layers: 1,
  num_decoder_layers: 1,
};

const OPTIONS: readonly DecodingOptions[] = [
  { maxNewTokens: 14, minNewTokens: 10 },
  { maxNewTokens: 12, numBeams: 3, numReturnSequences: 2 },
  { maxNewTokens: 9, doSample: true, seed: 3, topK: 20 },
  { maxNewTokens: 12, numBeams: 6, noRepeatNgramSize: 2 },
  { maxNewTokens: 10, doSample: true, seed: 5, numReturnSequences: 3, topP: 0.9 },
];

const CHOICES: readonly (readonly WeightedAdapter[])[] = [
  [],
  [{ key: 'narrow', weight: 1 }],
  [{ key: 'wide', weight: 1 }],
  [{ key: 'dora', weight: 1 }],
  [{ key: 'zero', weight: 1 }],
  [
    { key: 'narrow', weight: 0.75 },
    { key: 'dora', weight: -0.5 },
    { key: 'other', weight: 2 },
  ],
  [{ key: 'other', weight: 1 }],
  [{ key: 'head', weight: 1 }],
  [{ key: 'widest', weight: -0.5 }],
  [
    { key: 'head', weight: 0.5 },
    { key: 'wide', weight: 1 },
  ],
  [{ key: 'seven', weight: 1 }],
  [
    { key: 'wide', weight: 1 },
    { key: 'other', weight: 0.5 },
    { key: 'narrow', weight: 1 },
    { key: 'dora', weight: 1 },
    { key: 'zero', weight: 1 },
  ],
];

function makeRequests(count: number, seed = SEED): Asked[] {
  const next = seededNumbers(seed);
  return Array.from({ length: count }, (_, index) => ({
    id: `r${index}`,
    promptTokenIds: Array.from({ length: 3 + Math.floor(next() * 70) }, () => 3 + Math.floor(next() * 150)),
    options: OPTIONS[Math.floor(next() * OPTIONS.length)] ?? {},
    adapters: CHOICES[index % CHOICES.length] ?? [],
  }));
}

/** A whole head, of the size of the model's own. */
function randomHead(config: ModelConfig): Float32Array {
  const next = seededNumbers(SEED);
  return Float32Array.from({ length: config.vocabularySize * config.hiddenSize }, () => (next() - 0.5) / 4);
}

function answerOf(harness: EngineHarness, id: string): unknown {
  return harness.outputs.get(id)?.sequences;
}

const RUNS = [
  { what: 'fp32', precision: 'fp32', decodeLoop: false },
  { what: 'int8', precision: 'int8', decodeLoop: false },
  { what: 'fp32, decoding in a loop', precision: 'fp32', decodeLoop: true },
] as const;

for (const { what, precision, decodeLoop } of RUNS) {
  describe(`adapters over a random T5 in ${what}`, () => {
    let runner: ModelRunner;
    let plain: ModelRunner;
    let weights: ReadonlyMap<string, LoraWeights>;
    const requests = makeRequests(28);
    const alone = new Map<string, unknown>();
    const closing: (() => Promise<void>)[] = [];

    before(async () => {
      const keep = { after: (close: () => Promise<void>) => closing.push(close) };
      const { parent, name } = await writeTinyModel(keep as never, { gated: true, config: CONFIG });
      const loadedPlain = await loadRunner(parent, name, { precision, decodeLoop });
      plain = loadedPlain.runner;
      const { config } = loadedPlain.files;
      weights = new Map([
        ['narrow', randomAdapter(config, { seed: 1, rank: 3, targets: ['q', 'v'] })],
        ['wide', randomAdapter(config, { seed: 2, rank: 37, targets: EVERY })],
        ['dora', randomAdapter(config, { seed: 3, rank: 8, targets: ['q', 'o', 'wo'], dora: true })],
        ['zero', randomAdapter(config, { seed: 4, rank: 16, targets: EVERY, zeroB: true })],
        ['head', { ...randomAdapter(config, { seed: 6, rank: 5, targets: ['o'] }), head: randomHead(config) }],
        ['widest', randomAdapter(config, { seed: 7, rank: 130, targets: ['q', 'wo'], dora: true })],
        ['seven', randomAdapter(config, { seed: 8, rank: 112, targets: ['q', 'v', 'o'] })],
        ['other', randomAdapter(config, { seed: 5, rank: 16, targets: ['k', 'wi_1'] })],
      ]);
      ({ runner } = await loadRunner(parent, name, { precision, decodeLoop, targets: targetsOf(weights.values()) }));
      for (const [key, adapter] of weights) runner.addAdapter(key, adapter);
      for (const request of requests) {
        alone.set(request.id, answerOf(await EngineHarness.runAll(runner, [request]), request.id));
      }
    });
    after(async () => {
      await runner.dispose();
      await plain.dispose();
      for (const close of closing) await close();
    });

    test('adapters change the answers, each in its own way', () => {
      const [request] = requests;
      assert.ok(request !== undefined);
      const answers = requests.slice(0, CHOICES.length).map(({ id }) => JSON.stringify(alone.get(id)));
      assert.equal(new Set(answers).size, answers.length);
    });

    test('all adapters, blends and none in one batch = each request alone', async () => {
      const harness = await EngineHarness.runAll(runner, requests);
      for (const { id } of requests) assert.deepEqual(answerOf(harness, id), alone.get(id), id);
    });

    test('who comes while others run waits for its adapters, in the order of coming, and answers as alone', async () => {
      let pieces = 0;
      const slow: ModelRunner = Object.create(runner, {
        // as if the adapters of every request had many pieces
        prepare: {
          value: (...args: Parameters<ModelRunner['prepare']>) => {
            const done = runner.prepare(...args);
            return done === 'ready' && pieces++ % 4 !== 3 ? 'more to do' : done;
          },
        },
      });
      const started: string[] = [];
      const harness: EngineHarness = new EngineHarness(slow, {}, (trace) => {
        const known = new Set(started);
        const coming = trace.rows.map(({ requestId }) => requestId).filter((id) => !known.has(id));
        // those that begin together have no order
        started.push(...coming.sort((a, b) => Number(a.slice(1)) - Number(b.slice(1))));
      });
      const [first, ...others] = requests;
      assert.ok(first !== undefined);
      harness.submit(first);
      await harness.engine.step();
      for (const request of others) harness.submit(request);
      await harness.drain();
      assert.deepEqual(
        started,
        requests.map(({ id }) => id),
      );
      for (const { id } of requests) assert.deepEqual(answerOf(harness, id), alone.get(id), id);
    });

    test('few rows at a time, preempted and resumed = alone', async () => {
      const harness = new EngineHarness(runner, { maxRows: 7, timeSliceSteps: 3 });
      for (const request of requests) harness.submit(request);
      await harness.drain();
      for (const { id } of requests) assert.deepEqual(answerOf(harness, id), alone.get(id), id);
    });

    for (const choice of [CHOICES[1], CHOICES[2], CHOICES[7]]) {
      test(`many rows of one adapter = alone: ${choice?.[0]?.key}`, async () => {
        const options = { maxNewTokens: 8, minNewTokens: 8 };
        const same = makeRequests(33, SEED + 1).map((one) => ({ ...one, options, adapters: choice ?? [] }));
        const harness = await EngineHarness.runAll(runner, same);
        for (const one of same.filter((_, index) => index % 4 === 0)) {
          const single = await EngineHarness.runAll(runner, [one]);
          assert.deepEqual(answerOf(harness, one.id), answerOf(single, one.id), one.id);
        }
      });
    }

    test('numbers that overflow in one row reach no other row', async () => {
      const [normal] = requests;
      assert.ok(normal !== undefined);
      const huge = { ...normal, id: 'huge', adapters: [{ key: 'wide', weight: 1e38 }] };
      const others = requests.slice(0, 6);
      const harness = new EngineHarness(runner);
      for (const one of [huge, ...others]) harness.submit(one);
      await harness.drain({ mayFail: true });
      for (const { id } of others) assert.deepEqual(answerOf(harness, id), alone.get(id), id);
      assert.deepEqual([...harness.failures.keys()], ['huge']);
      const [failure] = harness.failures.values();
      assert.ok(failure instanceof RuntimeError && /wide × 1e\+38/.test(failure.message));
      assert.deepEqual([failure.code, failure.details], ['INVALID_ADAPTER', { argument: 'adapters' }]);
    });

    test('no adapter, and an adapter whose B is zero, = the model without LoRA inputs', async () => {
      const base = requests.map((request) => ({ ...request, adapters: [] }));
      const expected = await EngineHarness.runAll(plain, base);
      const none = await EngineHarness.runAll(runner, base);
      const zero = await EngineHarness.runAll(
        runner,
        base.map((request) => ({ ...request, adapters: [{ key: 'zero', weight: 1 }] })),
      );
      for (const { id } of base) {
        assert.deepEqual(answerOf(none, id), answerOf(expected, id), id);
        assert.deepEqual(answerOf(zero, id), answerOf(expected, id), id);
      }
    });

    test('a dropped adapter that is added again answers as before; a new one under its key as itself', async () => {
      const [, request] = requests;
      const narrow = weights.get('narrow');
      const other = weights.get('other');
      assert.ok(request !== undefined && narrow !== undefined && other !== undefined);
      runner.dropAdapter('narrow');
      await assert.rejects(EngineHarness.runAll(runner, [request]), { code: 'CONFLICT' });
      runner.addAdapter('narrow', other);
      const asOther = await EngineHarness.runAll(runner, [request]);
      const expected = await EngineHarness.runAll(runner, [{ ...request, adapters: [{ key: 'other', weight: 1 }] }]);
      assert.deepEqual(answerOf(asOther, request.id), answerOf(expected, request.id));
      runner.dropAdapter('narrow');
      runner.addAdapter('narrow', narrow);
      assert.deepEqual(answerOf(await EngineHarness.runAll(runner, [request]), request.id), alone.get(request.id));
    });
  });
}
