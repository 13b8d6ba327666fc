/** Texts to vectors. */

import type { EmbeddingLayer } from './engine/engine-client.ts';
import { RuntimeError } from './errors.ts';
import type { ServedModel } from './models/served-model.ts';

export interface EmbedOptions {
  readonly layer: EmbeddingLayer;
  /** none: a vector a token; mean: their mean. */
  readonly pooling: 'none' | 'mean';
  /** Whether each vector is scaled to length 1. */
  readonly normalize: boolean;
}

export interface TextEmbedding {
  readonly text: string;
  readonly tokenIds: readonly number[];
  /** One vector when pooled, else one a token. */
  readonly vectors: readonly (readonly number[])[];
  readonly dimension: number;
}

function mean(vectors: readonly Float32Array[], dimension: number): Float32Array {
  const sum = new Float64Array(dimension);
  for (const vector of vectors) for (const [index, value] of vector.entries()) sum[index] = (sum[index] ?? 0) + value;
  return Float32Array.from(sum, (value) => value / vectors.length);
}

function normalized(vector: Float32Array): Float32Array {
  const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
  return length === 0 ? vector : vector.map((value) => value / length);
}

/** Special tokens are added and count as tokens. Throws INPUT_TOO_LONG or BAD_USER_INPUT (a text without tokens). */
export async function embedTexts(
  model: ServedModel,
  texts: readonly string[],
  { layer, pooling, normalize }: EmbedOptions,
): Promise<readonly TextEmbedding[]> {
  const { hiddenSize, maxInputTokens } = model.config;
  const tokenIds = await Promise.all(texts.map((text) => model.tokenizer.encode(text)));
  for (const [index, ids] of tokenIds.entries()) {
    if (ids.length > maxInputTokens) {
      const message = `Expected texts of at most ${maxInputTokens} tokens, ${ids.length} came in texts[${index}]. Shorten it or split it.`;
      throw new RuntimeError('INPUT_TOO_LONG', message, { argument: 'texts' });
    }
    if (ids.length === 0) {
      throw new RuntimeError('BAD_USER_INPUT', 'Expected texts of at least one token, an empty one came.', {
        argument: 'texts',
      });
    }
  }
  const states = await model.engine.embed(tokenIds, layer);
  return texts.map((text, index) => {
    const ids = tokenIds[index] ?? [];
    const rows = ids.map((_, row) =>
      (states[index] as Float32Array).subarray(row * hiddenSize, (row + 1) * hiddenSize),
    );
    const pooled = pooling === 'mean' ? [mean(rows, hiddenSize)] : rows;
    const vectors = pooled.map((vector) => [...(normalize ? normalized(vector) : vector)]);
    return { text, tokenIds: ids, vectors, dimension: hiddenSize };
  });
}
