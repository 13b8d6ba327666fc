/** A typed array with dimensions: what graphs hold as weights and what sessions take and give. */

export type TensorData = Float32Array | Int32Array | BigInt64Array;

export interface TensorValue<D extends TensorData = TensorData> {
  readonly data: D;
  readonly dims: readonly number[];
}

/** Returns a float32 tensor; the data is shared, not copied. */
export function floatTensor(data: Float32Array, dims: readonly number[]): TensorValue<Float32Array> {
  return { data, dims };
}

/** Returns an int32 tensor; the data is shared, not copied. */
export function intTensor(data: Int32Array, dims: readonly number[]): TensorValue<Int32Array> {
  return { data, dims };
}

/** Returns an int64 tensor, the type ONNX wants for shapes, counts and axes. */
export function longTensor(values: readonly number[], dims: readonly number[] = [values.length]): TensorValue {
  return { data: BigInt64Array.from(values, BigInt), dims };
}

/** Returns the number of elements that the dimensions span. */
export function elementCount(dims: readonly number[]): number {
  return dims.reduce((product, size) => product * size, 1);
}
