/** A draw over the likely candidates of a row chooses what it would of the whole row in order. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { likelyCandidates } from '../../../src/runtime/decoding/likely-candidates.ts';
import {
  type Candidate,
  probabilitiesOf,
  type RowEdits,
  sortCandidates,
  type WarperParams,
  warp,
} from '../../../src/runtime/decoding/logits-processors.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const SIZE = 3000;
const next = seededNumbers(20261128);

function pick(kept: readonly Candidate[], probabilities: Float64Array, draw: number): number | undefined {
  let rest = draw;
  for (const [index, { id }] of kept.entries()) {
    rest -= probabilities[index] as number;
    if (rest < 0) return id;
  }
  return kept.at(-1)?.id;
}

/** Logits as models have them: a few that stand out, many that are equal or nearly so. */
function randomLogits(): Float32Array {
  const spread = 1 + 8 * next();
  return Float32Array.from({ length: SIZE }, () =>
    next() < 0.2 ? -3 : Math.fround((next() + next() + next() - 1.5) * spread),
  );
}

const EDITS: readonly RowEdits[] = [
  { banned: new Set(), penalized: new Set() },
  { banned: new Set([1, 5, 900]), penalized: new Set([2, 3, 2999]) },
];
const PARAMS: readonly Partial<WarperParams>[] = [
  {},
  { topP: 0.92 },
  { topP: 0.5, temperature: 0.7 },
  { minP: 0.1 },
  { topP: 0.9, minP: 0.05, temperature: 1.6 },
  { temperature: 2.5 },
];

for (const changes of PARAMS) {
  test(`${JSON.stringify(changes)}: the same token, and few candidates`, () => {
    const params = { temperature: 1, topK: 0, topP: 1, minP: 0, typicalP: 1, ...changes };
    let listed = 0;
    let rounds = 0;
    for (const edits of EDITS) {
      for (let round = 0; round < 40; round++, rounds++) {
        const logits = randomLogits();
        const draw = next();
        const all = sortCandidates(
          [...logits.entries()].flatMap(([id, logit]) => {
            const score = edits.penalized.has(id) ? (logit < 0 ? logit * 1.3 : logit / 1.3) : logit;
            return edits.banned.has(id) ? [] : [{ id, logit, score }];
          }),
        );
        const whole = warp(all, params);
        const { candidates, restWeight } = likelyCandidates(logits, edits, 1.3, params, draw);
        const kept = warp(candidates, params, 1, restWeight);
        const isNarrowed = params.topP < 1 || params.minP > 0;
        assert.equal(
          pick(kept, probabilitiesOf(kept, isNarrowed ? 0 : restWeight), draw),
          pick(whole, probabilitiesOf(whole), draw),
          `round ${round}, draw ${draw}`,
        );
        listed += candidates.length;
      }
    }
    assert.ok(listed < rounds * SIZE, `${listed / rounds} of ${SIZE} are listed`);
  });
}

test('a row whose ids are all banned has no candidate', () => {
  const edits = { banned: new Set([0, 1, 2]), penalized: new Set<number>() };
  const params = { temperature: 1, topK: 0, topP: 0.9, minP: 0, typicalP: 1 };
  assert.deepEqual(likelyCandidates(Float32Array.of(1, 2, 3), edits, 1, params, 0.5).candidates, []);
});
