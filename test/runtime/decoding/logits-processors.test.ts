/** The chain of processors is transformers': log-probabilities within 1e-5, the same tokens impossible. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Candidate,
  editsOf,
  penalize,
  probabilitiesOf,
  sortCandidates,
  warp,
} from '../../../src/runtime/decoding/logits-processors.ts';
import { candidatesOf, needsOf } from '../../../src/runtime/decoding/row-candidates.ts';
import { oracleTest, readJsonFile, repositoryPath } from '../../support/oracle.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';
import { scoresOf } from '../../support/toy-scores.ts';

interface ProcessorCase {
  readonly options: Partial<Record<string, number>> & { readonly badWordsIds?: readonly (readonly number[])[] };
  readonly beams: number;
  readonly promptLength: number;
  readonly history: readonly number[];
  readonly logits: readonly number[];
  readonly logProbabilities: readonly (number | null)[];
}

const EOS = [1];

function paramsOf({ options }: ProcessorCase) {
  return {
    repetitionPenalty: options.repetitionPenalty ?? 1,
    noRepeatNgramSize: options.noRepeatNgramSize ?? 0,
    minNewTokens: options.minNewTokens ?? 0,
    badWordsIds: options.badWordsIds ?? [],
    temperature: options.temperature ?? 1,
    topK: options.topK ?? 0,
    topP: options.topP ?? 1,
    minP: options.minP ?? 0,
    typicalP: options.typicalP ?? 1,
  };
}

function checkCases(path: string): void {
  for (const [index, one] of readJsonFile<readonly ProcessorCase[]>(path).entries()) {
    const params = paramsOf(one);
    const edits = editsOf(params, one.history, one.history.length - one.promptLength, EOS);
    const candidates: Candidate[] = one.logits.flatMap((logit, id) => {
      if (edits.banned.has(id)) return [];
      return [{ id, logit, score: edits.penalized.has(id) ? penalize(logit, params.repetitionPenalty) : logit }];
    });
    const kept = warp(sortCandidates(candidates), params, one.beams > 1 ? 2 : 1);
    const probabilities = probabilitiesOf(kept);
    const actual = new Map(kept.map(({ id }, rank) => [id, Math.log(probabilities[rank] as number)]));
    for (const [id, expected] of one.logProbabilities.entries()) {
      const name = `case ${index} ${JSON.stringify(one.options)} beams ${one.beams} id ${id}`;
      if (expected === null) assert.equal(actual.get(id), undefined, name);
      else
        assert.ok(
          Math.abs((actual.get(id) ?? Number.NaN) - expected) <= 1e-5,
          `${name}: ${actual.get(id)} for ${expected}`,
        );
    }
  }
}

test('one case of each chain', () => checkCases(repositoryPath('test/fixtures/processors.json')));
oracleTest('every case of the oracle', 'oracle/processors.json', checkCases);

test('the best candidates of a few logits = those of the whole row', () => {
  const seed = 7;
  const next = seededNumbers(seed);
  for (let round = 0; round < 500; round++) {
    const logits = Float32Array.from({ length: 50 }, () => Math.fround(8 * next() - 4));
    const history = Array.from({ length: 1 + Math.floor(next() * 12) }, () => Math.floor(next() * 10));
    const params = {
      repetitionPenalty: next() < 0.5 ? 1 : 0.5 + next(),
      noRepeatNgramSize: Math.floor(next() * 4),
      minNewTokens: Math.floor(next() * 12),
      badWordsIds: [[3], [history.at(-1) ?? 0, 5]],
    };
    const edits = editsOf(params, history, history.length - 1, EOS);
    const count = 1 + Math.floor(next() * 8);
    const pick = (all: boolean): readonly Candidate[] => {
      const needs = needsOf(edits, { count, alternatives: 0, allLogits: all, scored: true });
      return candidatesOf(scoresOf(logits, needs), needs, edits, params.repetitionPenalty, (logit) => logit).slice(
        0,
        count,
      );
    };
    assert.deepEqual(pick(false), pick(true), `seed ${seed} round ${round}`);
  }
});
