/**
 * DoRA's gain of a matrix: how long each row of W should be, by the adapter's magnitudes, over how long the adapted row
 * is (Liu et al. 2024, https://arxiv.org/abs/2402.09353; PEFT 0.21.2, dora.py: DoraLinearLayer).
 */

export interface AdaptedMatrix {
  readonly rank: number;
  readonly inSize: number;
  readonly outSize: number;
  readonly scale: number;
  /** [out, in]: the base model's. */
  readonly weight: Float32Array;
  /** [rank, in] */
  readonly a: Float32Array;
  /** [out, rank], as in the file. */
  readonly b: Float32Array;
}

/** Returns ‖W + scale·B·A‖ of each row. // [out] */
export function adaptedRowNorms({ rank, inSize, outSize, scale, weight, a, b }: AdaptedMatrix): Float64Array {
  const norms = new Float64Array(outSize);
  const row = new Float64Array(inSize);
  for (let out = 0; out < outSize; out++) {
    for (let index = 0; index < inSize; index++) row[index] = weight[out * inSize + index] as number;
    for (let factor = 0; factor < rank; factor++) {
      const share = scale * (b[out * rank + factor] as number);
      const start = factor * inSize;
      for (let index = 0; index < inSize; index++) {
        row[index] = (row[index] as number) + share * (a[start + index] as number);
      }
    }
    let sum = 0;
    for (let index = 0; index < inSize; index++) sum += (row[index] as number) ** 2;
    norms[out] = Math.sqrt(sum);
  }
  return norms;
}
