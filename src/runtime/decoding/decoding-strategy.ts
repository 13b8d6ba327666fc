/**
 * What the engine and a decoding strategy say to each other. One strategy object decodes one request: it knows token
 * ids and scores, nothing of tensors, caches or other requests. After each step of the model the engine hands over
 * the scores of the request's running rows and learns which rows run next.
 */
import type { FinishReason } from './stopping-criteria.ts';

/** What a strategy must see of the coming step's logits, for one running row. */
export interface RowNeeds {
  /** Number of highest logits wanted, at least 1. */
  readonly topCount: number;
  /** Ids whose own logits are wanted, wherever they rank. */
  readonly askedIds: readonly number[];
  /** Whether the whole row of logits is wanted. */
  readonly allLogits: boolean;
  /**
   * Whether only the order of the highest logits matters: then `logSumExp` may be NaN, logits be rounded otherwise, and
   * the ids of `banned` be left out of the highest.
   */
  readonly orderOnly: boolean;
  /** Ids that cannot be chosen, for which `topCount` has room; absent: none. */
  readonly banned?: ReadonlySet<number>;
}

/** One row's next-token scores: the model's own logits, before any processor. */
export interface RowScores {
  /** log Σ exp(logit) over the vocabulary; a token's log-probability is its logit minus this. NaN: not computed. */
  readonly logSumExp: number;
  /** Ids by falling logit, the lower id first among equals; at least `topCount` of them, fewer when the vocabulary ends or banned ones are left out. */
  readonly topIds: ArrayLike<number>;
  /** The logits of `topIds`. */
  readonly topLogits: ArrayLike<number>;
  /** The logits of `RowNeeds.askedIds`, in that order. */
  readonly askedLogits: ArrayLike<number>;
  /** [vocabulary] logits; present when `RowNeeds.allLogits`. */
  readonly logits: Float32Array | undefined;
}

/** A row of the next step: it continues row `parent` of the step just made with `tokenId`. */
export interface NextRow {
  readonly parent: number;
  readonly tokenId: number;
}

/** Tokens that are now certain to be part of a returned sequence, for streaming. */
export interface TokensAppended {
  readonly sequenceIndex: number;
  readonly tokenIds: readonly number[];
}

/** What a step led to. `nextRows` is empty exactly when the request has ended. */
export interface Advance {
  readonly nextRows: readonly NextRow[];
  readonly appended: readonly TokensAppended[];
}

interface ScoredToken {
  readonly id: number;
  /** log-softmax of the model's own logits, before any processor; NaN unless `SamplingParams.logprobs`. */
  readonly logprob: number;
}

export interface GeneratedToken extends ScoredToken {
  /** The most likely tokens at this position, best first; `topLogprobs` of them. */
  readonly alternatives: readonly ScoredToken[];
}

export interface GeneratedSequence {
  /** New tokens only, the end token included where it was chosen. */
  readonly tokens: readonly GeneratedToken[];
  /** Beams: length-penalised sum of processed log-probabilities. Otherwise: the sum of `tokens[].logprob`, NaN as they. */
  readonly score: number;
  readonly finishReason: FinishReason;
}

/** A row that runs, for those who compute several steps at once and must guess what is chosen. */
export interface RunningRow {
  /** Of its sequence among those returned; draws depend on it. 0 for beams. */
  readonly sequenceIndex: number;
  readonly newTokenIds: readonly number[];
  /** Beams: the sum of processed log-probabilities. Otherwise 0. */
  readonly score: number;
}

export interface DecodingStrategy {
  /** The rows of the coming step, in the order of `needs()`. */
  running(): readonly RunningRow[];
  /** What each running row of the coming step must report; its length is the number of running rows. */
  needs(): readonly RowNeeds[];
  /** Takes the scores of a step, one entry a running row in the order of `needs()`. */
  advance(scores: readonly RowScores[]): Advance;
  /** The sequences to return, in order of `index`: final once `advance` gave no next rows; before that, what there is, as CANCELLED. */
  sequences(): readonly GeneratedSequence[];
}
