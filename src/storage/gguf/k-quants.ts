/**
 * Quantized superblocks of 256 values, as ggml's block_q2_K … block_q6_K hold them (ggml-quants.c; gguf-py 0.19.0,
 * quants.py): the scales of groups of 16 or 32 values are quantized too, and share a float16 scale of the superblock.
 *
 * As in legacy-quants.ts, every operation is exact in double precision and the one rounding is that into float32.
 */
import { halfValues } from '../float-conversion.ts';
import { halfAt, signed } from './legacy-quants.ts';

export const SUPERBLOCK = 256;
const GROUP = 32;
const GROUPS = SUPERBLOCK / GROUP;

export const SUPERBLOCK_BYTES = { Q2_K: 84, Q3_K: 110, Q4_K: 144, Q5_K: 176, Q6_K: 210 } as const;

/** [16 scales and minima, 4 bits each][low bits 64][scale 2][scale of minima 2]: q · s · scale - m · scale of minima. */
export function dequantizeQ2_K(blocks: Uint8Array, values: Float32Array): void {
  const halves = halfValues();
  for (let at = 0, first = 0; first < values.length; at += SUPERBLOCK_BYTES.Q2_K, first += SUPERBLOCK) {
    const scale = halfAt(blocks, at + 80, halves);
    const minimumScale = halfAt(blocks, at + 82, halves);
    for (let index = 0; index < SUPERBLOCK; index++) {
      const packed = blocks[at + (index >> 4)] as number;
      const quantum = twoBits(blocks, at + 16, index);
      values[first + index] = quantum * (scale * (packed & 15)) - minimumScale * (packed >> 4);
    }
  }
}

/** Value `index` of 2 bits: 32 bytes hold 128 values, those of every following 32 two bits higher. */
function twoBits(bytes: Uint8Array, at: number, index: number): number {
  const byte = bytes[at + (index >> 7) * GROUP + (index & 31)] as number;
  return (byte >> (((index >> 5) & 3) * 2)) & 3;
}

/** [third bits 32][low bits 64][16 scales, 6 bits each: 12][scale 2]: (q - 4) · (s - 32) · scale. */
export function dequantizeQ3_K(blocks: Uint8Array, values: Float32Array): void {
  const halves = halfValues();
  for (let at = 0, first = 0; first < values.length; at += SUPERBLOCK_BYTES.Q3_K, first += SUPERBLOCK) {
    const scale = halfAt(blocks, at + 108, halves);
    for (let index = 0; index < SUPERBLOCK; index++) {
      // a third bit that is set means that nothing is taken away
      const third = ((blocks[at + (index & 31)] as number) >> (index >> 5)) & 1;
      const quantum = twoBits(blocks, at + 32, index) - (third === 1 ? 0 : 4);
      values[first + index] = quantum * (scale * (sixBitScale(blocks, at + 96, index >> 4) - 32));
    }
  }
}

/** Scale `group` of Q3_K: 4 low bits in 8 bytes, the lower halves first; 2 high bits in 4 bytes, two bits a time. */
function sixBitScale(bytes: Uint8Array, at: number, group: number): number {
  const low = ((bytes[at + (group & 7)] as number) >> (group < 8 ? 0 : 4)) & 15;
  const high = ((bytes[at + 8 + (group & 3)] as number) >> ((group >> 2) * 2)) & 3;
  return low | (high << 4);
}

/** Scale `group` of Q4_K and Q5_K, 6 bits: those of the last four groups lie in pieces. */
function groupScale(bytes: Uint8Array, at: number, group: number): number {
  if (group < 4) return (bytes[at + group] as number) & 63;
  return ((bytes[at + group + 4] as number) & 15) | (((bytes[at + group - 4] as number) >> 6) << 4);
}

/** Minimum `group` of Q4_K and Q5_K, 6 bits. */
function groupMinimum(bytes: Uint8Array, at: number, group: number): number {
  if (group < 4) return (bytes[at + group + 4] as number) & 63;
  return ((bytes[at + group + 4] as number) >> 4) | (((bytes[at + group] as number) >> 6) << 4);
}

/** [scale 2][scale of minima 2][8 scales and minima 12][low bits 128]: q · s · scale - m · scale of minima. */
export function dequantizeQ4_K(blocks: Uint8Array, values: Float32Array): void {
  const halves = halfValues();
  for (let at = 0, first = 0; first < values.length; at += SUPERBLOCK_BYTES.Q4_K, first += SUPERBLOCK) {
    for (let group = 0; group < GROUPS; group++) {
      const scale = halfAt(blocks, at, halves) * groupScale(blocks, at + 4, group);
      const minimum = halfAt(blocks, at + 2, halves) * groupMinimum(blocks, at + 4, group);
      const low = at + 16 + (group >> 1) * GROUP;
      const shift = (group & 1) * 4;
      for (let index = 0; index < GROUP; index++) {
        const quantum = ((blocks[low + index] as number) >> shift) & 15;
        values[first + group * GROUP + index] = quantum * scale - minimum;
      }
    }
  }
}

/** [scale 2][scale of minima 2][8 scales and minima 12][fifth bits 32][low bits 128], otherwise as Q4_K. */
export function dequantizeQ5_K(blocks: Uint8Array, values: Float32Array): void {
  const halves = halfValues();
  for (let at = 0, first = 0; first < values.length; at += SUPERBLOCK_BYTES.Q5_K, first += SUPERBLOCK) {
    for (let group = 0; group < GROUPS; group++) {
      const scale = halfAt(blocks, at, halves) * groupScale(blocks, at + 4, group);
      const minimum = halfAt(blocks, at + 2, halves) * groupMinimum(blocks, at + 4, group);
      const low = at + 48 + (group >> 1) * GROUP;
      const shift = (group & 1) * 4;
      for (let index = 0; index < GROUP; index++) {
        const fifth = ((blocks[at + 16 + index] as number) >> group) & 1;
        const quantum = (((blocks[low + index] as number) >> shift) & 15) | (fifth << 4);
        values[first + group * GROUP + index] = quantum * scale - minimum;
      }
    }
  }
}

/** [low bits 128][high bits 64][16 scales, signed][scale 2]: (q - 32) · s · scale. */
export function dequantizeQ6_K(blocks: Uint8Array, values: Float32Array): void {
  const halves = halfValues();
  for (let at = 0, first = 0; first < values.length; at += SUPERBLOCK_BYTES.Q6_K, first += SUPERBLOCK) {
    const scale = halfAt(blocks, at + 208, halves);
    for (let index = 0; index < SUPERBLOCK; index++) {
      // 64 bytes hold the low bits of 128 values, the lower halves first
      const low = blocks[at + (index >> 7) * 64 + (index & 63)] as number;
      const quantum = ((low >> ((index & 64) === 0 ? 0 : 4)) & 15) | (twoBits(blocks, at + 128, index) << 4);
      const groupScale = signed(blocks[at + 192 + (index >> 4)] as number);
      values[first + index] = (quantum - 32) * (scale * groupScale);
    }
  }
}
