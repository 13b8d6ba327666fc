/**
 * An 8-bit copy of a matrix: a scale a row, no zero point.
 *
 * Processors differ in how large the weights may be. Those with VNNI add products in 32 bits. AVX2, and AVX-512 without
 * VNNI, first add the products of two neighbours in 16 bits that saturate: 255·|w₀| + 255·|w₁| must stay below 2¹⁵,
 * so |w₀| + |w₁| ≤ 128. Holding pairs to that keeps half a bit to a whole bit more than 7-bit weights would.
 */

import type { QuantizedMatrix } from '../graph/quantized-linear.ts';

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

/** What a range says of the processor that multiplies it exactly. */
export function describeRange({ single, pair }: WeightRange): string {
  if (pair >= 2 * single)
    return single < WEIGHT_RANGES[0].single
      ? `7 bits (${single} at most)`
      : 'the full range: sums have 32 bits (VNNI, or a kernel like it)';
  return `${single} at most, two neighbours ${pair + 1}: sums of two products have 16 bits that saturate (AVX2)`;
}

/** Rows that are quantized together, so that writing the transposed copy stays in the cache. */
const BLOCK = 64;

/** `matrix` [rows, size] → weights [size, rows], and a scale for each row. */
export function quantizeRows(matrix: Float32Array, size: number, range: WeightRange): QuantizedMatrix {
  const rowCount = matrix.length / size;
  const weights = new Int8Array(matrix.length);
  const scales = new Float32Array(rowCount);
  for (let block = 0; block < rowCount; block += BLOCK) {
    const end = Math.min(block + BLOCK, rowCount);
    for (let row = block; row < end; row++)
      scales[row] = rowScale(matrix.subarray(row * size, (row + 1) * size), range);
    for (let column = 0; column < size; column++) {
      for (let row = block; row < end; row++) {
        weights[column * rowCount + row] = Math.round(
          (matrix[row * size + column] as number) / (scales[row] as number),
        );
      }
    }
  }
  return { weights, scales };
}

/** What rounding lost, by row. */
export interface RoundingNorms {
  /** ‖w − ŵ‖. */
  readonly errorNorms: Float32Array;
  /** The larger of ‖w‖ and ‖ŵ‖. */
  readonly norms: Float32Array;
}

export function roundingNorms(matrix: Float32Array, size: number, { weights, scales }: QuantizedMatrix): RoundingNorms {
  const rowCount = scales.length;
  const errorNorms = new Float32Array(rowCount);
  const norms = new Float32Array(rowCount);
  for (let row = 0; row < rowCount; row++) {
    const scale = scales[row] as number;
    let [error, norm, quantized] = [0, 0, 0];
    for (let column = 0; column < size; column++) {
      const weight = matrix[row * size + column] as number;
      const rounded = (weights[column * rowCount + row] as number) * scale;
      error += (weight - rounded) ** 2;
      norm += weight ** 2;
      quantized += rounded ** 2;
    }
    errorNorms[row] = Math.sqrt(error);
    norms[row] = Math.sqrt(Math.max(norm, quantized));
  }
  return { errorNorms, norms };
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
