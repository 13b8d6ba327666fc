/** What a decode step is fed of the past, by layer: the same list makes the graph's inputs and the memory behind them. */
import type { HeadShape } from './attention.ts';

export interface CachedTensor {
  /** Of the graph's input, between the names of section and layer. */
  readonly name: string;
  readonly type: 'float32' | 'uint8';
  /** Of one request; 'length' is that of what is cached. One without it says something of the whole. */
  readonly dims: readonly (number | 'length')[];
  /** Whether all layers have it in common; it is named as the first layer's. Default: each has its own. */
  readonly isShared?: boolean;
}

/** Keys, then values, [KV, length, dk]: of the tokens decoded so far, or of a source. */
export function floatCache(
  kind: 'self' | 'source',
  { headCount, headSize, keyValueHeadCount = headCount }: HeadShape,
): readonly CachedTensor[] {
  const dims = [keyValueHeadCount, 'length', headSize] as const;
  return ['keys', 'values'].map((part) => ({ name: `${kind}_${part}`, type: 'float32', dims }));
}

/** A source in 8 bits, in the order of QuantizedSource (quantized-attention.ts). */
export function quantizedSourceCache({ headCount, headSize }: HeadShape): readonly CachedTensor[] {
  return [
    { name: 'source_keys', type: 'uint8', dims: [headCount, headSize, 'length'] },
    { name: 'source_key_scales', type: 'float32', dims: [headCount, 1, headSize] },
    { name: 'source_values', type: 'uint8', dims: [headCount, 'length', headSize] },
    { name: 'source_value_scales', type: 'float32', dims: [headCount, 1, headSize] },
  ];
}

/** A source as its encoder's states, of which a graph makes every layer's keys and values itself. */
export function stateCache({ hiddenSize }: { readonly hiddenSize: number }): readonly CachedTensor[] {
  return [{ name: 'source_states', type: 'float32', dims: ['length', hiddenSize], isShared: true }];
}
