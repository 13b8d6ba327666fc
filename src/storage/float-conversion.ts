/** Published weights in their several float formats to float32. */

export type FloatType = 'F32' | 'F16' | 'BF16';

export const FLOAT_BYTES: Record<FloatType, number> = { F32: 4, F16: 2, BF16: 2 };

let halfTable: Float32Array | undefined;

/** IEEE 754 binary16: 1 sign, 5 exponent, 10 mantissa bits. */
function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const mantissa = half & 1023;
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

/** Converts little-endian values; F32 comes back as a copy that owns its memory. */
export function toFloat32(bytes: Uint8Array, type: FloatType): Float32Array {
  const aligned = bytes.slice();
  if (type === 'F32') return new Float32Array(aligned.buffer, 0, aligned.length / 4);
  const halves = new Uint16Array(aligned.buffer, 0, aligned.length / 2);
  const floats = new Float32Array(halves.length);
  if (type === 'BF16') {
    // bfloat16 is the upper half of a float32
    const bits = new Uint32Array(floats.buffer);
    for (let index = 0; index < halves.length; index++) bits[index] = (halves[index] as number) << 16;
    return floats;
  }
  halfTable ??= Float32Array.from({ length: 65_536 }, (_, half) => halfToFloat(half));
  for (let index = 0; index < halves.length; index++) floats[index] = halfTable[halves[index] as number] as number;
  return floats;
}
