/**
 * Quantized blocks of 32 values with one scale each, as ggml's block_q4_0 … block_q8_0 hold them (ggml-quants.c; gguf-py
 * 0.19.0, quants.py). A block begins with its scale (float16), an offset (float16) and the fifth bits of its values
 * where it has them; of every byte of low bits, the lower half is value i, the upper half value i + 16.
 *
 * Every product and sum here is exact in double precision, so the one rounding is that into float32: the same bits as
 * the reference, which rounds only inexact sums.
 */
import { halfValues } from '../float-conversion.ts';

export const LEGACY_BLOCK = 32;
const HALF_BLOCK = LEGACY_BLOCK / 2;

export const LEGACY_BYTES = { Q4_0: 18, Q4_1: 20, Q5_0: 22, Q5_1: 24, Q8_0: 34 } as const;

/** The float16 at a position. */
export function halfAt(bytes: Uint8Array, at: number, values: Float32Array): number {
  return values[(bytes[at] as number) | ((bytes[at + 1] as number) << 8)] as number;
}

/** [scale 2][low bits 16]: (q - 8) · scale. */
export function dequantizeQ4_0(blocks: Uint8Array, values: Float32Array): void {
  const halves = halfValues();
  for (let at = 0, first = 0; first < values.length; at += LEGACY_BYTES.Q4_0, first += LEGACY_BLOCK) {
    const scale = halfAt(blocks, at, halves);
    for (let index = 0; index < HALF_BLOCK; index++) {
      const low = blocks[at + 2 + index] as number;
      values[first + index] = ((low & 15) - 8) * scale;
      values[first + HALF_BLOCK + index] = ((low >> 4) - 8) * scale;
    }
  }
}

/** [scale 2][offset 2][low bits 16]: q · scale + offset. */
export function dequantizeQ4_1(blocks: Uint8Array, values: Float32Array): void {
  const halves = halfValues();
  for (let at = 0, first = 0; first < values.length; at += LEGACY_BYTES.Q4_1, first += LEGACY_BLOCK) {
    const scale = halfAt(blocks, at, halves);
    const offset = halfAt(blocks, at + 2, halves);
    for (let index = 0; index < HALF_BLOCK; index++) {
      const low = blocks[at + 4 + index] as number;
      values[first + index] = (low & 15) * scale + offset;
      values[first + HALF_BLOCK + index] = (low >> 4) * scale + offset;
    }
  }
}

/** Bit `index` of little-endian bytes, as the fifth bit of a value. */
function fifthBit(bytes: Uint8Array, at: number, index: number): number {
  return (((bytes[at + (index >> 3)] as number) >> (index & 7)) & 1) << 4;
}

/** [scale 2][fifth bits 4][low bits 16]: (q - 16) · scale. */
export function dequantizeQ5_0(blocks: Uint8Array, values: Float32Array): void {
  const halves = halfValues();
  for (let at = 0, first = 0; first < values.length; at += LEGACY_BYTES.Q5_0, first += LEGACY_BLOCK) {
    const scale = halfAt(blocks, at, halves);
    for (let index = 0; index < HALF_BLOCK; index++) {
      const low = blocks[at + 6 + index] as number;
      values[first + index] = (((low & 15) | fifthBit(blocks, at + 2, index)) - 16) * scale;
      values[first + HALF_BLOCK + index] = (((low >> 4) | fifthBit(blocks, at + 2, index + HALF_BLOCK)) - 16) * scale;
    }
  }
}

/** [scale 2][offset 2][fifth bits 4][low bits 16]: q · scale + offset. */
export function dequantizeQ5_1(blocks: Uint8Array, values: Float32Array): void {
  const halves = halfValues();
  for (let at = 0, first = 0; first < values.length; at += LEGACY_BYTES.Q5_1, first += LEGACY_BLOCK) {
    const scale = halfAt(blocks, at, halves);
    const offset = halfAt(blocks, at + 2, halves);
    for (let index = 0; index < HALF_BLOCK; index++) {
      const low = blocks[at + 8 + index] as number;
      values[first + index] = ((low & 15) | fifthBit(blocks, at + 4, index)) * scale + offset;
      values[first + HALF_BLOCK + index] = ((low >> 4) | fifthBit(blocks, at + 4, index + HALF_BLOCK)) * scale + offset;
    }
  }
}

/** [scale 2][q 32, signed]: q · scale. */
export function dequantizeQ8_0(blocks: Uint8Array, values: Float32Array): void {
  const halves = halfValues();
  for (let at = 0, first = 0; first < values.length; at += LEGACY_BYTES.Q8_0, first += LEGACY_BLOCK) {
    const scale = halfAt(blocks, at, halves);
    for (let index = 0; index < LEGACY_BLOCK; index++) {
      values[first + index] = signed(blocks[at + 2 + index] as number) * scale;
    }
  }
}

/** A byte as a number from -128 to 127. */
export function signed(byte: number): number {
  return (byte << 24) >> 24;
}
