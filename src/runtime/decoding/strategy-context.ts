/** What a strategy knows of the model it decodes with, and how it records a chosen token. */
import type { GeneratedToken, RowScores } from './decoding-strategy.ts';

export interface StrategyContext {
  readonly eosTokenIds: readonly number[];
  /** The ids before the first new one, as the chain of processors sees them: a prompt, or a decoder's start token. */
  readonly history: readonly number[];
  readonly vocabularySize: number;
  /** As in StoppingOptions; absent: no request has stop strings. */
  readonly endOfText?: (newTokenIds: readonly number[], length: number) => string;
}

const NO_ALTERNATIVES: GeneratedToken['alternatives'] = [];

export function recordToken(id: number, logit: number, scores: RowScores, topLogprobs: number): GeneratedToken {
  const logprob = logit - scores.logSumExp;
  if (topLogprobs === 0) return { id, logprob, alternatives: NO_ALTERNATIVES };
  const count = Math.min(topLogprobs, scores.topIds.length);
  const alternatives = Array.from({ length: count }, (_, rank) => ({
    id: scores.topIds[rank] as number,
    logprob: (scores.topLogits[rank] as number) - scores.logSumExp,
  }));
  return { id, logprob, alternatives };
}
