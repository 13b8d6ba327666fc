/** Weights in the float formats of published files, to float32 and back. Values are little-endian, as in the files. */

export type FloatType = 'F32' | 'F16' | 'BF16';

const FLOAT_BYTES: Readonly<Record<FloatType, number>> = { F32: 4, F16: 2, BF16: 2 };

export function isFloatType(dtype: string): dtype is FloatType {
  return Object.hasOwn(FLOAT_BYTES, dtype);
}

const HALF_NAN = 0x7e00;
const BFLOAT_NAN = 0x7fc0;
const HALF_INFINITY = 0x7c00;
/** Halfway between the largest half, 65504, and the next one that would be: from here on infinity is nearer. */
const HALF_OVERFLOW = 65_520;
const SMALLEST_NORMAL_HALF = 2 ** -14;

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

/** The value of every half, at the index that its bits are as a whole number. */
export function halfValues(): Float32Array {
  halfTable ??= Float32Array.from({ length: 65_536 }, (_, half) => halfToFloat(half));
  return halfTable;
}

/** Converts the values; the result of F32 shares memory with `bytes` where their alignment allows it. */
export function toFloat32(bytes: Uint8Array, type: FloatType): Float32Array {
  const size = FLOAT_BYTES[type];
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  const count = aligned.byteLength / size;
  if (type === 'F32') return new Float32Array(aligned.buffer, aligned.byteOffset, count);
  const halves = new Uint16Array(aligned.buffer, aligned.byteOffset, count);
  const floats = new Float32Array(count);
  if (type === 'BF16') {
    // bfloat16 is the upper half of a float32
    const bits = new Uint32Array(floats.buffer);
    for (let index = 0; index < count; index++) bits[index] = (halves[index] as number) << 16;
    return floats;
  }
  const values = halfValues();
  for (let index = 0; index < count; index++) floats[index] = values[halves[index] as number] as number;
  return floats;
}

/** Rounds x ≥ 0 to a whole number, a tie to the even one: above 2^52 a double has no fractions left. */
function roundTiesToEven(x: number): number {
  return x + 2 ** 52 - 2 ** 52;
}

function floatToHalf(value: number): number {
  if (Number.isNaN(value)) return HALF_NAN;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size >= HALF_OVERFLOW) return sign | HALF_INFINITY;
  // a mantissa that rounds up to 1024 (subnormal) or 2048 carries into the exponent by plain addition
  if (size < SMALLEST_NORMAL_HALF) return sign | roundTiesToEven(size * 2 ** 24);
  let exponent = Math.floor(Math.log2(size));
  if (2 ** exponent > size) exponent--;
  const mantissa = roundTiesToEven(size * 2 ** (10 - exponent));
  return sign | (((exponent + 15) << 10) + mantissa - 1024);
}

/** Converts to the bytes of a file; what does not fit a narrower type is rounded to the nearest, ties to even. */
export function fromFloat32(values: Float32Array, type: FloatType): Uint8Array {
  if (type === 'F32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const halves = new Uint16Array(values.length);
  if (type === 'F16') {
    for (let index = 0; index < values.length; index++) halves[index] = floatToHalf(values[index] as number);
  } else {
    const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
    for (let index = 0; index < values.length; index++) {
      const word = bits[index] as number;
      const noNumber = (word & 0x7fffffff) > 0x7f800000;
      halves[index] = noNumber ? BFLOAT_NAN : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
    }
  }
  return new Uint8Array(halves.buffer);
}
