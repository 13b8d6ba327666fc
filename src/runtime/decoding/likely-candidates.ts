/**
 * Of a whole row, the candidates that a draw can reach: sorting a vocabulary takes longer than a step of a small model.
 * What is left out weighs so little together that every choice is that of the sorted whole.
 */
import { type Candidate, penalize, type RowEdits, sortCandidates, type WarperParams } from './logits-processors.ts';

export interface LikelyCandidates {
  /** Best first. */
  readonly candidates: Candidate[];
  /** What the others weigh: Σ exp((score − best) / temperature). */
  readonly restWeight: number;
}

/** Keeps rounding from leaving out what is just heavy enough. */
const SLACK = 1 - 1e-9;

/** Whether the reach of a draw can be told without the whole row in order. */
export function hasReach({ topK, typicalP }: WarperParams): boolean {
  return topK === 0 && typicalP === 1;
}

/** `draw` in [0, 1): where the cumulative distribution will be inverted. */
export function likelyCandidates(
  logits: Float32Array,
  edits: RowEdits,
  penalty: number,
  params: WarperParams,
  draw: number,
): LikelyCandidates {
  const scores = Float64Array.from(logits);
  for (const id of edits.penalized) scores[id] = penalize(scores[id] as number, penalty);
  for (const id of edits.banned) scores[id] = Number.NEGATIVE_INFINITY;
  const best = scores.reduce((highest, score) => Math.max(highest, score), Number.NEGATIVE_INFINITY);
  let total = 0;
  const weights = scores.map((score) => {
    const weight = Math.exp((score - best) / params.temperature);
    total += weight;
    return weight;
  });
  const least = leastWeight(params, draw, total / logits.length) * SLACK;
  const candidates: Candidate[] = [];
  let restWeight = 0;
  for (const [id, weight] of weights.entries()) {
    const isBanned = scores[id] === Number.NEGATIVE_INFINITY;
    if (weight < least || isBanned) restWeight += isBanned ? 0 : weight;
    else candidates.push({ id, logit: logits[id] as number, score: scores[id] as number });
  }
  return { candidates: sortCandidates(candidates), restWeight };
}

/**
 * The least weight that matters, where the best one is 1. Of n candidates that weigh less than share · mean each, all
 * together weigh less than that share: top-p drops 1 − p from the bottom, and a draw d without it ends before the last
 * 1 − d of the distribution.
 */
function leastWeight({ topP, minP }: WarperParams, draw: number, mean: number): number {
  if (topP < 1) return (1 - topP) * mean;
  return minP > 0 ? minP : (1 - draw) * mean;
}
