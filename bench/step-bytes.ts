/** What a step of T5's decoder has to read, on paper: the mark that a measured speed is held against. */
import type { T5Config } from '../src/runtime/models/model-config.ts';

export interface StepSize {
  readonly rows: number;
  /** Tokens of each source. */
  readonly sourceLength: number;
  /** Of each row; the step in question is the mean of them. */
  readonly newTokens: number;
  /** Of a weight and of a number in a cache. */
  readonly numberBytes: number;
}

export interface StepBytes {
  /** Decoder and head, once for all rows. Of the embeddings each row reads one. */
  readonly weights: number;
  /** Keys and values of the sources, which cross-attention reads. */
  readonly source: number;
  /** Keys and values of the tokens before: (newTokens − 1) / 2 of them in the mean. */
  readonly own: number;
  readonly total: number;
}

/** The least: each weight once, no number of a cache twice, nothing padded, and what is written is not counted. */
export function stepBytes(config: T5Config, { rows, sourceLength, newTokens, numberBytes }: StepSize): StepBytes {
  const { hiddenSize, headCount, headSize, feedForwardSize, gated, decoderLayerCount, vocabularySize } = config;
  const inner = headCount * headSize;
  // q, k, v and o of self-attention; q and o of cross-attention, whose keys and values are made once
  const attention = 6 * hiddenSize * inner;
  const feedForward = (gated ? 3 : 2) * hiddenSize * feedForwardSize;
  const layer = attention + feedForward + 3 * hiddenSize;
  const ends = (vocabularySize + 1 + rows) * hiddenSize;
  const weights = numberBytes * (decoderLayerCount * layer + config.relativeBucketCount * headCount + ends);
  const token = numberBytes * rows * decoderLayerCount * 2 * inner;
  const source = token * sourceLength;
  const own = (token * (newTokens - 1)) / 2;
  return { weights, source, own, total: weights + source + own };
}
