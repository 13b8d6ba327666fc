import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createStrategy } from '../../../src/runtime/decoding/create-strategy.ts';
import type { DecodingStrategy } from '../../../src/runtime/decoding/decoding-strategy.ts';
import { probabilitiesOf, sortCandidates, warp } from '../../../src/runtime/decoding/logits-processors.ts';
import { parseSamplingParams } from '../../../src/runtime/decoding/parse-sampling-params.ts';
import type { DecodingOptions } from '../../../src/runtime/decoding/sampling-params.ts';
import { RuntimeError } from '../../../src/runtime/errors.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';
import { scoresOf } from '../../support/toy-scores.ts';

const VOCABULARY = 7;
const CONTEXT = {
  eosTokenIds: [1],
  history: [0],
  vocabularySize: VOCABULARY,
  endOfText: (ids: readonly number[]) => String.fromCharCode(...ids.map((id) => 96 + id)),
};
const PARSE = { defaults: {}, badWordsIds: [], drawSeed: () => 0, maxRows: 64 };

function strategyFor(options: DecodingOptions): DecodingStrategy {
  return createStrategy(parseSamplingParams(options, PARSE), CONTEXT);
}

/** A toy model: logits are a function of the history alone. */
function toyLogits(seed: number, history: readonly number[]): Float32Array {
  const next = seededNumbers(history.reduce((hash, id) => (hash * 31 + id + 1) % 1_000_003, seed));
  return Float32Array.from({ length: VOCABULARY }, () => 4 * next());
}

/** Runs a strategy over the toy model to its end; returns what it streamed. */
function drive(strategy: DecodingStrategy, seed: number): Map<number, number[]> {
  const streamed = new Map<number, number[]>();
  let rows: readonly (readonly number[])[] = [[0]];
  while (rows.length > 0) {
    const needs = strategy.needs();
    assert.equal(needs.length, rows.length);
    const step = strategy.advance(
      rows.map((history, row) => scoresOf(toyLogits(seed, history), needs[row] as (typeof needs)[0])),
    );
    for (const { sequenceIndex, tokenIds } of step.appended) {
      streamed.set(sequenceIndex, [...(streamed.get(sequenceIndex) ?? []), ...tokenIds]);
    }
    rows = step.nextRows.map(({ parent, tokenId }) => [...(rows[parent] ?? []), tokenId]);
  }
  return streamed;
}

function idsOf(strategy: DecodingStrategy): readonly (readonly number[])[] {
  return strategy.sequences().map(({ tokens }) => tokens.map(({ id }) => id));
}

/** Every finished sequence of the toy model up to a length, with its sum of log-probabilities. */
function enumerate(
  seed: number,
  most: number,
  history: readonly number[] = [0],
  score = 0,
): { ids: number[]; score: number }[] {
  const ids = history.slice(1);
  if (ids.at(-1) === 1 || ids.length === most) return [{ ids, score }];
  const logits = toyLogits(seed, history);
  const { logSumExp } = scoresOf(logits, { topCount: 1, askedIds: [], allLogits: false, orderOnly: false });
  return [...logits].flatMap((logit, id) => enumerate(seed, most, [...history, id], score + logit - logSumExp));
}

test('beams as wide as the tree find the best sequences of all, by penalised score', () => {
  for (let seed = 1; seed <= 20; seed++) {
    for (const lengthPenalty of [0, 1, 2]) {
      const all = enumerate(seed, 3)
        .map(({ ids, score }) => ({ ids, score: score / ids.length ** lengthPenalty }))
        .sort((a, b) => b.score - a.score);
      const strategy = strategyFor({
        numBeams: 60,
        numReturnSequences: 3,
        maxNewTokens: 3,
        lengthPenalty,
        earlyStopping: 'never',
      });
      drive(strategy, seed);
      assert.deepEqual(
        idsOf(strategy),
        all.slice(0, 3).map(({ ids }) => ids),
        `seed ${seed} penalty ${lengthPenalty}`,
      );
    }
  }
});

test('greedy takes the likeliest token at each step', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const strategy = strategyFor({ maxNewTokens: 8 });
    drive(strategy, seed);
    const history = [0];
    for (const id of idsOf(strategy)[0] ?? []) {
      const logits = toyLogits(seed, history);
      assert.equal(id, logits.indexOf(Math.max(...logits)));
      history.push(id);
    }
  }
});

test('streamed tokens joined are the sequences', () => {
  const kinds: DecodingOptions[] = [
    {},
    { numBeams: 3 },
    { numBeams: 5, numReturnSequences: 4, lengthPenalty: 2 },
    { doSample: true, numReturnSequences: 3 },
  ];
  for (const options of kinds) {
    for (let seed = 1; seed <= 25; seed++) {
      const strategy = strategyFor({ ...options, maxNewTokens: 10 });
      const streamed = drive(strategy, seed);
      for (const [index, ids] of idsOf(strategy).entries())
        assert.deepEqual(streamed.get(index) ?? [], ids, `seed ${seed}`);
    }
  }
});

test('20,000 draws of one step fit the processed distribution', () => {
  const options = { doSample: true, temperature: 1.2, topK: 6, topP: 0.95, maxNewTokens: 1 } as const;
  const logits = toyLogits(3, [0]);
  const counts = new Map<number, number>();
  const draws = 20_000;
  for (let seed = 0; seed < draws; seed++) {
    const strategy = strategyFor({ ...options, seed });
    const [needs] = strategy.needs();
    assert.ok(needs !== undefined);
    strategy.advance([scoresOf(logits, needs)]);
    const id = strategy.sequences()[0]?.tokens[0]?.id ?? -1;
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  const sorted = sortCandidates([...logits].map((logit, id) => ({ id, logit, score: logit })));
  const kept = warp(sorted, parseSamplingParams(options, PARSE));
  const probabilities = probabilitiesOf(kept);
  const chiSquare = kept.reduce((sum, { id }, rank) => {
    const expected = draws * (probabilities[rank] as number);
    return sum + ((counts.get(id) ?? 0) - expected) ** 2 / expected;
  }, 0);
  assert.equal([...counts.keys()].filter((id) => !kept.some((candidate) => candidate.id === id)).length, 0);
  // 99.99 % of the chi-square distribution with 5 degrees of freedom lies below 25.7
  assert.ok(kept.length <= 6 && chiSquare < 25.7, `chi-square ${chiSquare} of ${kept.length} tokens`);
});

test('an argument that its strategy cannot honour is refused by name', () => {
  const refused: readonly [DecodingOptions, string][] = [
    [{ temperature: 0.7 }, 'temperature'],
    [{ topK: 5 }, 'topK'],
    [{ topP: 0.5, numBeams: 3 }, 'topP'],
    [{ minP: 0.1 }, 'minP'],
    [{ typicalP: 0.5 }, 'typicalP'],
    [{ seed: 1 }, 'seed'],
    [{ lengthPenalty: 2 }, 'lengthPenalty'],
    [{ earlyStopping: 'never' }, 'earlyStopping'],
    [{ lengthPenalty: 2, doSample: true }, 'lengthPenalty'],
    [{ numReturnSequences: 2 }, 'numReturnSequences'],
    [{ numReturnSequences: 4, numBeams: 3 }, 'numReturnSequences'],
    [{ doSample: true, numBeams: 2 }, 'doSample'],
  ];
  for (const [options, argument] of refused) {
    const matches = (error: unknown) =>
      error instanceof RuntimeError && error.code === 'UNSUPPORTED_ARGUMENT' && error.details.argument === argument;
    assert.throws(() => parseSamplingParams(options, PARSE), matches, argument);
  }
});

test('a value out of range is refused by name', () => {
  const bad: readonly [DecodingOptions, string][] = [
    [{ maxNewTokens: 0 }, 'maxNewTokens'],
    [{ minNewTokens: 20, maxNewTokens: 10 }, 'minNewTokens'],
    [{ doSample: true, temperature: 0 }, 'temperature'],
    [{ doSample: true, topP: 1.1 }, 'topP'],
    [{ numBeams: 65 }, 'numBeams'],
    [{ topLogprobs: 21 }, 'topLogprobs'],
    [{ repetitionPenalty: 0 }, 'repetitionPenalty'],
    [{ noRepeatNgramSize: -1 }, 'noRepeatNgramSize'],
  ];
  for (const [options, argument] of bad) {
    const matches = (error: unknown) =>
      error instanceof RuntimeError && error.code === 'BAD_USER_INPUT' && error.details.argument === argument;
    assert.throws(() => parseSamplingParams(options, PARSE), matches, argument);
  }
});

test('what only the model says yields to the strategy that the request asks for', () => {
  const defaults = { numBeams: 4, lengthPenalty: 2, noRepeatNgramSize: 3, maxNewTokens: 80 };
  const sampled = parseSamplingParams({ doSample: true, seed: 1 }, { ...PARSE, defaults });
  assert.deepEqual([sampled.numBeams, sampled.lengthPenalty, sampled.noRepeatNgramSize], [1, 1, 3]);
  const plain = parseSamplingParams({}, { ...PARSE, defaults });
  assert.deepEqual([plain.numBeams, plain.lengthPenalty, plain.maxNewTokens], [4, 2, 80]);
});
