/**
 * The chain that turns a model's scores into the scores to choose from, in the order and with the meaning of
 * transformers 5: repetition penalty, no-repeat n-grams, bad words, minimum length, then (sampling only) temperature,
 * top-k, top-p, min-p, typical-p. A row is a list of candidates: the whole vocabulary, or only as many of the best as
 * can matter; tokens that are not listed count as impossible.
 */
import type { SamplingParams } from './sampling-params.ts';

export interface Candidate {
  readonly id: number;
  /** The model's own logit. */
  readonly logit: number;
  /** What the chain made of it so far. */
  score: number;
}

export type ProcessorParams = Pick<
  SamplingParams,
  'repetitionPenalty' | 'noRepeatNgramSize' | 'badWordsIds' | 'minNewTokens'
>;
export type WarperParams = Pick<SamplingParams, 'temperature' | 'topK' | 'topP' | 'minP' | 'typicalP'>;

/** What the history of a row forbids or makes dearer in the coming step. */
export interface RowEdits {
  readonly banned: ReadonlySet<number>;
  /** Ids under the repetition penalty; empty when it is off. */
  readonly penalized: ReadonlySet<number>;
}

const NO_IDS: ReadonlySet<number> = new Set();

/** Keskar et al. 2019 (CTRL), section 4.1: negative scores are multiplied, positive ones divided. */
export function penalize(score: number, penalty: number): number {
  return score < 0 ? score * penalty : score / penalty;
}

/** `history`: ids so far, the prompt or a decoder's start token included; `newTokenCount` of them are new. */
export function editsOf(
  params: ProcessorParams,
  history: readonly number[],
  newTokenCount: number,
  eosTokenIds: readonly number[],
): RowEdits {
  const banned = new Set<number>();
  banRepeatedNgrams(banned, history, params.noRepeatNgramSize);
  banBadWords(banned, history, params.badWordsIds, eosTokenIds);
  if (newTokenCount < params.minNewTokens) for (const id of eosTokenIds) banned.add(id);
  return { banned, penalized: params.repetitionPenalty === 1 ? NO_IDS : new Set(history) };
}

/** Bans what would complete an n-gram that the history holds already. */
function banRepeatedNgrams(banned: Set<number>, history: readonly number[], size: number): void {
  if (size === 0 || history.length + 1 < size) return;
  const prefix = history.length - size + 1;
  for (let start = 0; start + size <= history.length; start++) {
    let same = true;
    for (let offset = 0; same && offset < size - 1; offset++) {
      same = history[start + offset] === history[prefix + offset];
    }
    if (same) banned.add(history[start + size - 1] as number);
  }
}

/** Bans the last token of each bad word whose other tokens end the history; a word longer than the history waits. */
function banBadWords(
  banned: Set<number>,
  history: readonly number[],
  words: readonly (readonly number[])[],
  eosTokenIds: readonly number[],
): void {
  for (const word of words) {
    const last = word.at(-1);
    if (last === undefined || (word.length === 1 && eosTokenIds.includes(last))) continue;
    if (word.length > 1 && word.length > history.length) continue;
    const start = history.length - word.length + 1;
    if (word.slice(0, -1).every((id, offset) => history[start + offset] === id)) banned.add(last);
  }
}

/** Sorts by falling score, the lower id first among equals: the order every choice is made in. */
export function sortCandidates(candidates: Candidate[]): Candidate[] {
  return candidates.sort((a, b) => b.score - a.score || a.id - b.id);
}

/**
 * Narrows sorted candidates by the sampling settings; keeps at least `minKept` of them. `restWeight`: of less likely ones
 * that are not listed, as in likely-candidates.ts.
 */
export function warp(
  sorted: readonly Candidate[],
  params: WarperParams,
  minKept = 1,
  restWeight = 0,
): readonly Candidate[] {
  let kept = sorted;
  if (params.temperature !== 1) {
    kept = kept.map((candidate) => ({ ...candidate, score: candidate.score / params.temperature }));
  }
  if (params.topK > 0) kept = keepTopK(kept, Math.max(params.topK, minKept));
  if (params.topP < 1) kept = keepTopP(kept, params.topP, minKept, restWeight);
  if (params.minP > 0) kept = keepMinP(kept, params.minP, minKept);
  if (params.typicalP < 1) kept = keepTypical(kept, params.typicalP, minKept);
  return kept;
}

/** Probabilities of candidates by their scores; what is not listed weighs `restWeight`, where the best one weighs 1. */
export function probabilitiesOf(candidates: readonly Candidate[], restWeight = 0): Float64Array {
  const best = candidates.reduce((highest, { score }) => Math.max(highest, score), Number.NEGATIVE_INFINITY);
  const weights = Float64Array.from(candidates, ({ score }) => Math.exp(score - best));
  const sum = weights.reduce((total, weight) => total + weight, restWeight);
  return weights.map((weight) => weight / sum);
}

/** Keeps the k best and whatever equals the last of them. */
function keepTopK(sorted: readonly Candidate[], k: number): readonly Candidate[] {
  const last = sorted[k - 1];
  return last === undefined ? sorted : sorted.filter(({ score }) => score >= last.score);
}

/** Nucleus (Holtzman et al. 2020): drops from the bottom while what is dropped weighs at most 1 − p. */
function keepTopP(
  sorted: readonly Candidate[],
  topP: number,
  minKept: number,
  restWeight: number,
): readonly Candidate[] {
  const probabilities = probabilitiesOf(sorted, restWeight);
  let count = sorted.length;
  // exp(0) is what the best one weighs
  let dropped = restWeight * (probabilities[0] ?? 0);
  while (count > minKept) {
    dropped += probabilities[count - 1] as number;
    if (dropped > 1 - topP) break;
    count--;
  }
  return sorted.slice(0, count);
}

/** Nguyen et al. 2024: drops what is less likely than `minP` times the most likely. */
function keepMinP(sorted: readonly Candidate[], minP: number, minKept: number): readonly Candidate[] {
  const probabilities = probabilitiesOf(sorted);
  const threshold = minP * (probabilities[0] ?? 0);
  return sorted.filter((_, index) => index < minKept || (probabilities[index] as number) >= threshold);
}

/** Meister et al. 2023: keeps the tokens whose surprise is nearest the entropy, until they weigh `mass`. */
function keepTypical(sorted: readonly Candidate[], mass: number, minKept: number): readonly Candidate[] {
  const probabilities = probabilitiesOf(sorted);
  const logs = probabilities.map((probability) => Math.log(probability));
  const entropy = -logs.reduce(
    (sum, log, index) => sum + (log === Number.NEGATIVE_INFINITY ? 0 : log * (probabilities[index] as number)),
    0,
  );
  const distance = logs.map((log) => Math.abs(-log - entropy));
  const order = [...sorted.keys()].sort((a, b) => (distance[a] as number) - (distance[b] as number) || a - b);
  let cumulative = 0;
  let count = 0;
  for (const index of order) {
    cumulative += probabilities[index] as number;
    if (cumulative >= mass) break;
    count++;
  }
  const limit = distance[order[Math.min(count, order.length - 1)] ?? 0] as number;
  const kept = new Set(order.filter((index, rank) => rank < minKept || (distance[index] as number) <= limit));
  return sorted.filter((_, index) => kept.has(index));
}
