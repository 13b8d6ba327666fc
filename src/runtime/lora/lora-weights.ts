/**
 * An adapter in the form that a model runs: for each adapted matrix W [out, in], y = (1 + gainChange) ∘ (W x) + b (a x),
 * where b has taken in every scale there is (alpha/r, DoRA's gain). Hu et al. 2021, https://arxiv.org/abs/2106.09685;
 * Liu et al. 2024, https://arxiv.org/abs/2402.09353.
 *
 * The arrays lie in shared memory: the serving thread keeps them, and hands them to each worker without a copy.
 */
import { LORA_UNIT } from '../graph/lora.ts';

export interface LoraFactors {
  /** The module's path as the model's weights name it, without `.weight`: `decoder.block.0.layer.0.SelfAttention.q`. */
  readonly module: string;
  readonly rank: number;
  /** [units, in, ranks of the unit]: the ranks in units of LORA_UNIT, as graphs take them; the last may be narrower. */
  readonly a: Float32Array;
  /** [rank, out] */
  readonly b: Float32Array;
  /** [out]; DoRA only: by how much more than once a row of W counts. */
  readonly gainChange: Float32Array | undefined;
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
  return factors.reduce(
    (sum, { a, b, gainChange }) => sum + a.byteLength + b.byteLength + (gainChange?.byteLength ?? 0),
    own,
  );
}

/** Writes A as the file has it, `rows` [rank, in], to `units` [units, in, ranks of the unit]. */
export function writeUnits(units: Float32Array, rows: Float32Array, rank: number): void {
  const inSize = rows.length / rank;
  for (let first = 0; first < rank; first += LORA_UNIT) {
    const width = Math.min(LORA_UNIT, rank - first);
    const start = first * inSize;
    for (let place = 0; place < width; place++) {
      const row = (first + place) * inSize;
      for (let index = 0; index < inSize; index++) units[start + index * width + place] = rows[row + index] as number;
    }
  }
}
