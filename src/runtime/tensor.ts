/** A typed array with dimensions: what graphs hold as weights and what sessions take and give. */

/** float16 lies in whole numbers of 16 bits. */
export type ElementType = 'float32' | 'float16' | 'int8' | 'int32' | 'int64' | 'uint8';
export type TensorData = Float32Array | Uint16Array | Int32Array | BigInt64Array | Int8Array | Uint8Array;

export interface TensorValue<D extends TensorData = TensorData> {
  readonly data: D;
  readonly dims: readonly number[];
}

/** Returns the ONNX name of an array's elements. */
export function elementTypeOf(data: TensorData): ElementType {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Uint16Array) return 'float16';
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof BigInt64Array) return 'int64';
  return data instanceof Int8Array ? 'int8' : 'uint8';
}

/** Returns a float32 tensor; the data is shared, not copied. */
export function floatTensor(data: Float32Array, dims: readonly number[]): TensorValue<Float32Array> {
  return { data, dims };
}

/** Returns an int32 tensor; the data is shared, not copied. */
export function intTensor(data: Int32Array, dims: readonly number[]): TensorValue<Int32Array> {
  return { data, dims };
}

/** Returns an int8 or uint8 tensor; the data is shared, not copied. */
export function byteTensor(data: Int8Array | Uint8Array, dims: readonly number[]): TensorValue {
  return { data, dims };
}

/** Returns an int64 tensor, the type ONNX wants for shapes, counts and axes. */
export function longTensor(values: readonly number[], dims: readonly number[] = [values.length]): TensorValue {
  return { data: BigInt64Array.from(values, BigInt), dims };
}

/** What `GraphBuilder.count` is fed: a tensor of that length. */
export function countTensor(count: number): TensorValue {
  return { data: new BigInt64Array(count), dims: [count] };
}

/** The rows of several matrices of one width under each other. */
export function joinRows(parts: readonly Float32Array[]): Float32Array {
  const [first] = parts;
  if (parts.length === 1 && first !== undefined) return first;
  const joined = new Float32Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}

/** What is made once of an array, and of any other that lies in the same memory. */
export class ByMemory<T> {
  private readonly made = new Map<ArrayBufferLike, Map<string, T>>();

  /** `dims`: read with other dimensions it is another. */
  get({ buffer, byteOffset, byteLength }: TensorData, dims: readonly number[], make: () => T): T {
    const inBuffer = this.made.get(buffer) ?? new Map<string, T>();
    this.made.set(buffer, inBuffer);
    const place = `${byteOffset}+${byteLength} ${dims.join(',')}`;
    const value = inBuffer.get(place) ?? make();
    inBuffer.set(place, value);
    return value;
  }
}

/** Returns the number of elements that the dimensions span. */
export function elementCount(dims: readonly number[]): number {
  return dims.reduce((product, size) => product * size, 1);
}
