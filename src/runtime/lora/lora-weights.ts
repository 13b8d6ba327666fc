/**
 * An adapter in the form that a model runs: for each adapted matrix W [out, in], y = gain ∘ (W x) + b (a x), where b has
 * taken in every scale there is (alpha/r, DoRA's gain). Hu et al. 2021, https://arxiv.org/abs/2106.09685; Liu et al.
 * 2024, https://arxiv.org/abs/2402.09353.
 *
 * The arrays lie in shared memory: the serving thread keeps them, and hands them to each worker without a copy.
 */

export interface LoraFactors {
  /** The module's path as the model's weights name it, without `.weight`: `decoder.block.0.layer.0.SelfAttention.q`. */
  readonly module: string;
  readonly rank: number;
  /** [rank, in] */
  readonly a: Float32Array;
  /** [rank, out] */
  readonly b: Float32Array;
  /** [out]; DoRA only: by how much a row of W counts. Undefined: as it is. */
  readonly gain: Float32Array | undefined;
}

export interface LoraWeights {
  readonly factors: readonly LoraFactors[];
  /** [vocabulary, hiddenSize] that stands in place of the model's output head; undefined: the model's own. */
  readonly head: Float32Array | undefined;
}

/** One adapter of a request, by the key under which its engine knows it, and how much of it. */
export interface WeightedAdapter {
  readonly key: string;
  readonly weight: number;
}

/** Where the factors of adapters go to be used: a model's engine. */
export interface AdapterHost {
  /**
   * Makes requests able to name `key`; resolves when they may. Traffic goes on meanwhile. Rejects with the RuntimeErrors
   * of an engine that is being stopped or given up.
   */
  addAdapter(key: string, weights: LoraWeights): Promise<void>;
  /** Forgets an adapter that no request names any more. */
  dropAdapter(key: string): void;
}

/** Bytes that the arrays of an adapter take. */
export function bytesOf({ factors, head }: LoraWeights): number {
  const own = head?.byteLength ?? 0;
  return factors.reduce((sum, { a, b, gain }) => sum + a.byteLength + b.byteLength + (gain?.byteLength ?? 0), own);
}
