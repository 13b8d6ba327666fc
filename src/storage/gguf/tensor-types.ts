/** The types of tensors in GGUF files by their numbers (ggml.h, enum ggml_type), and how those that are read become float32. */
import { type FloatType, toFloat32 } from '../float-conversion.ts';
import {
  dequantizeQ2_K,
  dequantizeQ3_K,
  dequantizeQ4_K,
  dequantizeQ5_K,
  dequantizeQ6_K,
  SUPERBLOCK,
  SUPERBLOCK_BYTES,
} from './k-quants.ts';
import {
  dequantizeQ4_0,
  dequantizeQ4_1,
  dequantizeQ5_0,
  dequantizeQ5_1,
  dequantizeQ8_0,
  LEGACY_BLOCK,
  LEGACY_BYTES,
} from './legacy-quants.ts';

export interface GgufTensorType {
  readonly name: string;
  /** Values of one block; a row is a whole number of blocks. */
  readonly blockSize: number;
  readonly blockBytes: number;
  /** Converts whole blocks. */
  readonly toFloat32: (blocks: Uint8Array) => Float32Array;
}

function floats(name: FloatType, blockBytes: number): GgufTensorType {
  return { name, blockSize: 1, blockBytes, toFloat32: (bytes) => toFloat32(bytes, name) };
}

function quantized(
  name: string,
  blockSize: number,
  blockBytes: number,
  dequantize: (blocks: Uint8Array, values: Float32Array) => void,
): GgufTensorType {
  const convert = (blocks: Uint8Array): Float32Array => {
    const values = new Float32Array((blocks.length / blockBytes) * blockSize);
    dequantize(blocks, values);
    return values;
  };
  return { name, blockSize, blockBytes, toFloat32: convert };
}

/** Types that are read, by number. */
const READ_TYPES: ReadonlyMap<number, GgufTensorType> = new Map([
  [0, floats('F32', 4)],
  [1, floats('F16', 2)],
  [2, quantized('Q4_0', LEGACY_BLOCK, LEGACY_BYTES.Q4_0, dequantizeQ4_0)],
  [3, quantized('Q4_1', LEGACY_BLOCK, LEGACY_BYTES.Q4_1, dequantizeQ4_1)],
  [6, quantized('Q5_0', LEGACY_BLOCK, LEGACY_BYTES.Q5_0, dequantizeQ5_0)],
  [7, quantized('Q5_1', LEGACY_BLOCK, LEGACY_BYTES.Q5_1, dequantizeQ5_1)],
  [8, quantized('Q8_0', LEGACY_BLOCK, LEGACY_BYTES.Q8_0, dequantizeQ8_0)],
  [10, quantized('Q2_K', SUPERBLOCK, SUPERBLOCK_BYTES.Q2_K, dequantizeQ2_K)],
  [11, quantized('Q3_K', SUPERBLOCK, SUPERBLOCK_BYTES.Q3_K, dequantizeQ3_K)],
  [12, quantized('Q4_K', SUPERBLOCK, SUPERBLOCK_BYTES.Q4_K, dequantizeQ4_K)],
  [13, quantized('Q5_K', SUPERBLOCK, SUPERBLOCK_BYTES.Q5_K, dequantizeQ5_K)],
  [14, quantized('Q6_K', SUPERBLOCK, SUPERBLOCK_BYTES.Q6_K, dequantizeQ6_K)],
  [30, floats('BF16', 2)],
]);

/** Types that are refused, by number: their names are for the message. */
const OTHER_TYPES: ReadonlyMap<number, string> = new Map([
  [4, 'Q4_2'],
  [5, 'Q4_3'],
  [9, 'Q8_1'],
  [15, 'Q8_K'],
  [16, 'IQ2_XXS'],
  [17, 'IQ2_XS'],
  [18, 'IQ3_XXS'],
  [19, 'IQ1_S'],
  [20, 'IQ4_NL'],
  [21, 'IQ3_S'],
  [22, 'IQ2_S'],
  [23, 'IQ4_XS'],
  [24, 'I8'],
  [25, 'I16'],
  [26, 'I32'],
  [27, 'I64'],
  [28, 'F64'],
  [29, 'IQ1_M'],
  [34, 'TQ1_0'],
  [35, 'TQ2_0'],
  [39, 'MXFP4'],
  [40, 'NVFP4'],
  [41, 'Q1_0'],
]);

const READ_NAMES = new Set([...READ_TYPES.values()].map(({ name }) => name));

/** Returns the type of this number; undefined: it is not read. */
export function tensorType(id: number): GgufTensorType | undefined {
  return READ_TYPES.get(id);
}

/** Whether tensors of the type of this name are read. */
export function isGgufType(name: string): boolean {
  return READ_NAMES.has(name);
}

/** Returns what a message calls a type that is not read. */
export function nameOfOtherType(id: number): string {
  return OTHER_TYPES.get(id) ?? `unknown type ${id}`;
}

/** Names of the types that are read, as a message lists them. */
export function readTypeNames(): string {
  return [...READ_TYPES.values()].map(({ name }) => name).join(', ');
}
