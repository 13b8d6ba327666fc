/**
 * An 8-bit copy of the output head for head-screen.ts, with what the rounding lost: a scale a row, no zero point.
 *
 * Processors differ in how large the weights may be. Those with VNNI add products in 32 bits. AVX2, and AVX-512 without
 * VNNI, first add the products of two neighbours in 16 bits that saturate: 255·|w₀| + 255·|w₁| must stay below 2¹⁵,
 * so |w₀| + |w₁| ≤ 128. Holding pairs to that keeps half a bit to a whole bit more than 7-bit weights would.
 */

export interface WeightRange {
  /** Largest weight. */
  readonly single: number;
  /** Largest sum of two neighbours, columns 2n and 2n + 1; rounding may add one. */
  readonly pair: number;
}

/** From the finest to the coarsest; the last one is exact on any processor. */
export const WEIGHT_RANGES: readonly [WeightRange, WeightRange, WeightRange] = [
  { single: 127, pair: 254 },
  { single: 127, pair: 127 },
  { single: 63, pair: 126 },
];

/** Rows of the head that are quantized together, so that writing the transposed copy stays in the cache. */
const BLOCK = 64;

export interface QuantizedHead {
  /** [d, vocabulary] */
  readonly weights: Int8Array;
  /** [vocabulary]: what a unit of a row's weights stands for. */
  readonly scales: Float32Array;
  /** [vocabulary]: ‖w − ŵ‖. */
  readonly errorNorms: Float32Array;
  /** [vocabulary]: the larger of ‖w‖ and ‖ŵ‖. */
  readonly norms: Float32Array;
}

/** `head` [vocabulary, size] */
export function quantizeHead(head: Float32Array, size: number, range: WeightRange): QuantizedHead {
  const vocabularySize = head.length / size;
  const weights = new Int8Array(head.length);
  const scales = new Float32Array(vocabularySize);
  const errorNorms = new Float32Array(vocabularySize);
  const norms = new Float32Array(vocabularySize);
  for (let block = 0; block < vocabularySize; block += BLOCK) {
    const end = Math.min(block + BLOCK, vocabularySize);
    for (let id = block; id < end; id++) scales[id] = rowScale(head.subarray(id * size, (id + 1) * size), range);
    for (let column = 0; column < size; column++) {
      for (let id = block; id < end; id++) {
        weights[column * vocabularySize + id] = Math.round(
          (head[id * size + column] as number) / (scales[id] as number),
        );
      }
    }
    for (let id = block; id < end; id++) {
      const scale = scales[id] as number;
      let [error, norm, quantized] = [0, 0, 0];
      for (let column = 0; column < size; column++) {
        const weight = head[id * size + column] as number;
        const rounded = (weights[column * vocabularySize + id] as number) * scale;
        error += (weight - rounded) ** 2;
        norm += weight ** 2;
        quantized += rounded ** 2;
      }
      errorNorms[id] = Math.sqrt(error);
      norms[id] = Math.sqrt(Math.max(norm, quantized));
    }
  }
  return { weights, scales, errorNorms, norms };
}

function rowScale(row: Float32Array, { single, pair }: WeightRange): number {
  let [largest, largestPair] = [0, 0];
  for (let column = 0; column < row.length; column += 2) {
    const even = Math.abs(row[column] as number);
    const odd = Math.abs(row[column + 1] ?? 0);
    largest = Math.max(largest, even, odd);
    largestPair = Math.max(largestPair, even + odd);
  }
  return largest === 0 ? 1 : Math.max(largest / single, largestPair / pair);
}
