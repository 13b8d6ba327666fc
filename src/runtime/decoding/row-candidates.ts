/**
 * Picks a row's best candidates from the little that a step reports of its logits. The history says before the step
 * which ids it bans or penalizes; with that many more of the highest logits, and the penalized ids' own, the best
 * processed candidates are exactly those of the whole row.
 */
import { invariant } from '../errors.ts';
import type { RowNeeds, RowScores } from './decoding-strategy.ts';
import { type Candidate, penalize, type RowEdits, sortCandidates } from './logits-processors.ts';

export interface CandidateNeeds {
  /** Best candidates that must be told. */
  readonly count: number;
  /** Alternatives to list beside them. */
  readonly alternatives: number;
  /** Whether candidates are the whole vocabulary. */
  readonly allLogits: boolean;
  /** Whether the candidates' scores are read, beyond their order. */
  readonly scored: boolean;
}

/** What must be reported of a row so that its candidates can be told. */
export function needsOf(edits: RowEdits, { count, alternatives, allLogits, scored }: CandidateNeeds): RowNeeds {
  const affected = edits.banned.size + edits.penalized.size;
  return {
    topCount: Math.max(1, alternatives, allLogits ? 1 : count + affected),
    askedIds: [...edits.penalized],
    allLogits,
    // a penalty changes the order, by the logits' own values
    orderOnly: !scored && alternatives === 0 && edits.penalized.size === 0,
    banned: edits.banned,
  };
}

/** `scoreOf`: from a logit to the score that the chain starts with (the logit itself, or a log-probability). */
export function candidatesOf(
  scores: RowScores,
  needs: RowNeeds,
  edits: RowEdits,
  penalty: number,
  scoreOf: (logit: number) => number,
): Candidate[] {
  const candidates: Candidate[] = [];
  const add = (id: number, logit: number): void => {
    if (edits.banned.has(id)) return;
    const score = scoreOf(logit);
    candidates.push({ id, logit, score: edits.penalized.has(id) ? penalize(score, penalty) : score });
  };
  if (needs.allLogits) {
    invariant(scores.logits !== undefined, 'all logits are there when asked for');
    for (const [id, logit] of scores.logits.entries()) add(id, logit);
    return sortCandidates(candidates);
  }
  for (let rank = 0; rank < needs.topCount; rank++) {
    const id = scores.topIds[rank];
    if (id !== undefined && !edits.penalized.has(id)) add(id, scores.topLogits[rank] as number);
  }
  for (const [index, id] of needs.askedIds.entries()) add(id, scores.askedLogits[index] as number);
  return sortCandidates(candidates);
}
