/** What must hold whoever shares the batch: answers are a function of the request alone, bit for bit. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { DecodingOptions } from '../../../src/runtime/decoding/sampling-params.ts';
import type { ModelRunner } from '../../../src/runtime/engine/model-runner.ts';
import type { Precision } from '../../../src/runtime/models/served-model.ts';
import type { Cleanup } from '../../support/cleanup.ts';
import { type Asked, EngineHarness, loadRunner } from '../../support/engine-harness.ts';
import { repositoryPath } from '../../support/oracle.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';
import { tinyGpt2, tinyLlama, writeTinyDecoderOnly } from '../../support/tiny-decoder-only.ts';

const SEED = 20261123;

const OPTIONS: readonly DecodingOptions[] = [
  { maxNewTokens: 24 },
  { maxNewTokens: 40, minNewTokens: 40, noRepeatNgramSize: 2 },
  { maxNewTokens: 20, repetitionPenalty: 1.3 },
  { maxNewTokens: 30, numBeams: 4, numReturnSequences: 2 },
  { maxNewTokens: 18, numBeams: 7, lengthPenalty: 0.5 },
  { maxNewTokens: 22, doSample: true, seed: 3, topK: 20 },
  { maxNewTokens: 22, doSample: true, seed: 4, topK: 0, typicalP: 0.9 },
  { maxNewTokens: 22, doSample: true, seed: 5, numReturnSequences: 3, topP: 0.9 },
];

/** Requests of every kind with prompts of very different lengths. */
function makeRequests(count: number, longest: number): Asked[] {
  const next = seededNumbers(SEED);
  return Array.from({ length: count }, (_, index) => ({
    id: `r${index}`,
    promptTokenIds: Array.from({ length: 3 + Math.floor(next() * (longest - 2)) }, () => 3 + Math.floor(next() * 115)),
    options: OPTIONS[index % OPTIONS.length] ?? {},
    logprobs: index % 3 !== 0,
  }));
}

/** Everything that a request answers but the time it took; floats are compared exactly. */
function answerOf(harness: EngineHarness, id: string): unknown {
  return harness.outputs.get(id)?.sequences;
}

interface Law {
  readonly model: string;
  /** Tokens of the longest prompt. */
  readonly longest: number;
  readonly precision?: Precision;
  /** Rows whose log-probabilities nobody reads are, then. Default false. */
  readonly screened?: boolean;
  /** Whether a run makes several steps. Default false. */
  readonly decodeLoop?: boolean;
  readonly place: (t: Cleanup) => Promise<{ readonly parent: string; readonly name: string }>;
}

const LAWS: readonly Law[] = [
  {
    model: 'T5',
    longest: 122,
    place: async () => ({ parent: repositoryPath('test/fixtures'), name: 't5-gated-untied' }),
  },
  // prompts of up to three chunks
  { model: 'GPT-2', longest: 600, place: (t) => writeTinyDecoderOnly(t, tinyGpt2) },
  { model: 'Llama', longest: 600, place: (t) => writeTinyDecoderOnly(t, tinyLlama) },
  {
    model: 'Llama whose tied head is screened',
    longest: 200,
    screened: true,
    place: (t) => writeTinyDecoderOnly(t, { ...tinyLlama, tie_word_embeddings: true }),
  },
  {
    model: 'T5 in 8 bits',
    longest: 122,
    precision: 'int8',
    place: async () => ({ parent: repositoryPath('test/fixtures'), name: 't5-gated-untied' }),
  },
  { model: 'GPT-2 in 8 bits', longest: 300, precision: 'int8', place: (t) => writeTinyDecoderOnly(t, tinyGpt2) },
  {
    model: 'T5 that decodes in a loop',
    longest: 122,
    decodeLoop: true,
    place: async () => ({ parent: repositoryPath('test/fixtures'), name: 't5-gated-untied' }),
  },
  {
    model: 'T5 in 16 bits',
    longest: 122,
    precision: 'fp16',
    decodeLoop: true,
    place: async () => ({ parent: repositoryPath('test/fixtures'), name: 't5-gated-untied' }),
  },
  {
    model: 'GPT-2 that decodes in a loop',
    longest: 300,
    decodeLoop: true,
    place: (t) => writeTinyDecoderOnly(t, tinyGpt2),
  },
  {
    model: 'Llama that decodes in a loop',
    longest: 600,
    decodeLoop: true,
    place: (t) => writeTinyDecoderOnly(t, tinyLlama),
  },
  { model: 'Llama in 8 bits', longest: 600, precision: 'int8', place: (t) => writeTinyDecoderOnly(t, tinyLlama) },
];

for (const { model, longest, screened = false, precision = 'fp32', decodeLoop = false, place } of LAWS) {
  describe(`the engine over a tiny ${model}`, () => {
    let runner: ModelRunner;
    const requests = makeRequests(24, longest);
    const alone = new Map<string, unknown>();

    before(async () => {
      const { parent, name } = await place({ after });
      ({ runner } = await loadRunner(parent, name, { screened, precision, decodeLoop }));
      for (const request of requests) {
        alone.set(request.id, answerOf(await EngineHarness.runAll(runner, [request]), request.id));
      }
    });
    after(() => runner.dispose());

    test('all in one batch = each alone', async () => {
      const harness = await EngineHarness.runAll(runner, requests);
      for (const { id } of requests) assert.deepEqual(answerOf(harness, id), alone.get(id), id);
    });

    test('few rows at a time = each alone', async () => {
      const harness = new EngineHarness(runner, { maxRows: 9 });
      for (const request of requests) harness.submit(request);
      await harness.drain();
      for (const { id } of requests) assert.deepEqual(answerOf(harness, id), alone.get(id), id);
      for (const { rows } of harness.traces) assert.ok(rows.reduce((sum, { rowCount }) => sum + rowCount, 0) <= 9);
    });

    test('late joining = alone', async () => {
      const waiting = [...requests];
      const harness = new EngineHarness(runner, {}, ({ number }) => {
        const next = number % 2 === 0 ? waiting.shift() : undefined;
        if (next !== undefined) harness.submit(next);
      });
      for (const request of waiting.splice(0, 2)) harness.submit(request);
      await harness.drain();
      for (const request of waiting.splice(0)) harness.submit(request);
      await harness.drain();
      for (const { id } of requests) assert.deepEqual(answerOf(harness, id), alone.get(id), id);
    });

    test('preempted and resumed = alone', async () => {
      const harness = new EngineHarness(runner, { maxRows: 8, timeSliceSteps: 3 });
      for (const request of requests) harness.submit(request);
      await harness.drain();
      const steps = harness.traces.map(({ rows }) => new Set(rows.map(({ requestId }) => requestId)));
      const interrupted = requests.filter(({ id }) => {
        const present = steps.map((ids) => ids.has(id));
        return present.slice(present.indexOf(true), present.lastIndexOf(true)).includes(false);
      });
      assert.ok(interrupted.length > 5, `${interrupted.length} requests were preempted`);
      for (const { id } of requests) assert.deepEqual(answerOf(harness, id), alone.get(id), id);
    });

    test('background requests that give their rows to interactive ones = alone', async () => {
      const isBackground = (index: number): boolean => index % 2 === 0;
      const coming = requests.filter((_, index) => !isBackground(index));
      let gaveWay = 0;
      let before = new Set<string>();
      const harness: EngineHarness = new EngineHarness(runner, { maxRows: 7 }, ({ number, rows }) => {
        const now = new Set(rows.map(({ requestId }) => requestId));
        gaveWay += [...before].filter((id) => !now.has(id) && !harness.outputs.has(id)).length;
        before = now;
        // runs of several steps are fewer
        const arriving = decodeLoop ? coming.splice(0, 6) : coming.splice(0, number % 2 === 0 ? 1 : 0);
        for (const next of arriving) harness.submit(next);
      });
      for (const request of requests.filter((_, index) => isBackground(index))) {
        harness.submit({ ...request, priority: 'background' });
      }
      await harness.drain();
      for (const { id } of requests) assert.deepEqual(answerOf(harness, id), alone.get(id), id);
      assert.ok(gaveWay > 0);
    });

    test('streamed tokens joined = the final tokens', async () => {
      const harness = await EngineHarness.runAll(runner, requests);
      for (const { id } of requests) {
        const joined = harness.tokenIds(id).map(() => [] as number[]);
        for (const { sequenceIndex, tokenIds } of harness.streamed.get(id) ?? [])
          joined[sequenceIndex]?.push(...tokenIds);
        assert.deepEqual(joined, harness.tokenIds(id), id);
      }
    });

    test('a cancelled request leaves before the next step, the others do not notice', async () => {
      // the first run makes one step: beams part from it
      const [run, made] = decodeLoop ? [2, 1] : [5, 4];
      const harness = new EngineHarness(runner, { prefillTokens: 1e9 }, ({ number }) => {
        if (number === run) for (const id of ['r1', 'r3']) harness.engine.cancel(id);
      });
      for (const request of requests) harness.submit(request);
      await harness.drain();
      for (const id of ['r1', 'r3']) {
        assert.equal(harness.outputs.get(id)?.sequences[0]?.finishReason, 'cancelled', id);
        assert.equal(harness.tokenIds(id)[0]?.length, made, id);
        for (const { number, rows } of harness.traces) {
          assert.ok(number <= run || rows.every(({ requestId }) => requestId !== id), `${id} in run ${number}`);
        }
      }
      for (const { id } of requests) {
        if (id !== 'r1' && id !== 'r3') assert.deepEqual(answerOf(harness, id), alone.get(id), id);
      }
    });

    test('when nothing runs the cache holds nothing', async () => {
      const harness = await EngineHarness.runAll(runner, requests);
      await harness.engine.step();
      assert.equal(harness.engine.cacheBytes, 0);
    });

    test('a stop string ends a row, also across token borders', async () => {
      const [request] = requests;
      assert.ok(request !== undefined);
      const free = await EngineHarness.runAll(runner, [{ ...request, options: { maxNewTokens: 24 } }]);
      const ids = free.tokenIds('r0')[0] ?? [];
      assert.ok(ids.length > 6);
      // the end of one token's text and the beginning of the next one's
      const stop = `${String(ids[3]).slice(-1)} t${ids[4]}`;
      const harness = await EngineHarness.runAll(runner, [{ ...request, options: { maxNewTokens: 24, stop: [stop] } }]);
      const text = ids.map((id) => ` t${id}`).join('');
      const end = text.indexOf(stop) + stop.length;
      const expected =
        ids.findIndex(
          (_, index) =>
            ids
              .slice(0, index + 1)
              .map((id) => ` t${id}`)
              .join('').length >= end,
        ) + 1;
      assert.deepEqual(harness.tokenIds('r0')[0], ids.slice(0, expected));
      assert.equal(harness.outputs.get('r0')?.sequences[0]?.finishReason, 'stop');
    });
  });
}
