/**
 * A decode loop guesses what strategies choose. Answers are right whatever it guesses; that it guesses right is seen in the
 * number of runs alone.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { DecodingOptions } from '../../../src/runtime/decoding/sampling-params.ts';
import type { ModelRunner } from '../../../src/runtime/engine/model-runner.ts';
import { type Asked, EngineHarness, loadRunner } from '../../support/engine-harness.ts';
import { repositoryPath } from '../../support/oracle.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';
import { tinyLlama, writeTinyDecoderOnly } from '../../support/tiny-decoder-only.ts';

const SEED = 20261128;
/** Fewer than the shortest run makes. */
const NEW_TOKENS = 30;
const LENGTH = { maxNewTokens: NEW_TOKENS, minNewTokens: NEW_TOKENS };

interface Guessed {
  readonly what: string;
  readonly options: DecodingOptions;
  readonly badWordsIds?: readonly (readonly number[])[];
}

const GUESSED: readonly Guessed[] = [
  { what: 'greedy, no end before the limit', options: LENGTH },
  { what: 'bans of bigrams', options: { ...LENGTH, noRepeatNgramSize: 2 } },
  { what: 'bans of every token once', options: { ...LENGTH, noRepeatNgramSize: 1 } },
  { what: 'bans of trigrams', options: { ...LENGTH, noRepeatNgramSize: 3 } },
  { what: 'a repetition penalty', options: { ...LENGTH, repetitionPenalty: 1.4 } },
  { what: 'a penalty and bans', options: { ...LENGTH, repetitionPenalty: 0.7, noRepeatNgramSize: 2 } },
  { what: 'bad words', options: LENGTH, badWordsIds: [[7], [91], [108], [60], [62], [86]] },
  { what: 'sampling from the best', options: { ...LENGTH, doSample: true, seed: 5, topK: 12, temperature: 1.7 } },
  { what: 'sampling from a nucleus', options: { ...LENGTH, doSample: true, seed: 6, topK: 0, topP: 0.8 } },
  { what: 'sampling from what is likely', options: { ...LENGTH, doSample: true, seed: 7, topK: 0, minP: 0.1 } },
  { what: 'sampling from all', options: { ...LENGTH, doSample: true, seed: 8, topK: 0 } },
  { what: 'several samples', options: { ...LENGTH, doSample: true, seed: 9, numReturnSequences: 3 } },
  { what: 'beams', options: { ...LENGTH, numBeams: 4 } },
  { what: 'beams with bans', options: { ...LENGTH, numBeams: 5, noRepeatNgramSize: 2 } },
  { what: 'beams with a penalty', options: { ...LENGTH, numBeams: 3, repetitionPenalty: 1.3 } },
];

const MODELS = [
  { model: 'T5', place: async () => ({ parent: repositoryPath('test/fixtures'), name: 't5-gated-untied' }) },
  { model: 'Llama', place: (t: Parameters<typeof writeTinyDecoderOnly>[0]) => writeTinyDecoderOnly(t, tinyLlama) },
] as const;

for (const { model, place } of MODELS) {
  describe(`what a tiny ${model} guesses`, () => {
    let runner: ModelRunner;
    let stepRunner: ModelRunner;

    before(async () => {
      const { parent, name } = await place({ after });
      ({ runner } = await loadRunner(parent, name, { decodeLoop: true }));
      ({ runner: stepRunner } = await loadRunner(parent, name));
    });
    after(async () => {
      await runner.dispose();
      await stepRunner.dispose();
    });

    for (const { what, options, badWordsIds = [] } of GUESSED) {
      test(`${what}: right, to the limit in one run`, async () => {
        const next = seededNumbers(SEED);
        const promptTokenIds = Array.from({ length: 20 }, () => 3 + Math.floor(next() * 100));
        const asked: Asked = { id: 'one', promptTokenIds, options, badWordsIds, stream: false };
        const looped = await EngineHarness.runAll(runner, [asked]);
        const stepped = await EngineHarness.runAll(stepRunner, [asked]);
        assert.deepEqual(looped.tokenIds('one'), stepped.tokenIds('one'));
        assert.equal(looped.tokenIds('one')[0]?.length, NEW_TOKENS);
        assert.equal(stepped.traces.length, NEW_TOKENS);
        // beams and samples part from the one row of a first step, which is a run of its own
        const parts = (options.numBeams ?? 1) > 1 || (options.numReturnSequences ?? 1) > 1;
        assert.equal(looped.traces.length, parts ? 2 : 1);
      });
    }

    test('a wrong guess costs runs and no token: typical-p is not guessed', async () => {
      const options = { ...LENGTH, doSample: true, seed: 4, topK: 0, typicalP: 0.5 };
      const asked: Asked = { id: 'one', promptTokenIds: [5, 9, 22, 31], options, stream: false };
      const looped = await EngineHarness.runAll(runner, [asked]);
      const stepped = await EngineHarness.runAll(stepRunner, [asked]);
      assert.deepEqual(looped.tokenIds('one'), stepped.tokenIds('one'));
      assert.ok(looped.traces.length > 1 && looped.traces.length <= NEW_TOKENS, `${looped.traces.length} runs`);
    });
  });
}
