/**
 * The JSON header of a safetensors file (https://github.com/huggingface/safetensors), held against the bytes of data
 * that follow it: known types, shapes that fill their ranges, ranges that fill the data without holes or overlaps.
 */
import { decodeText, isObject, parseJsonObject } from './bounded-file.ts';
import { countKeys } from './json-keys.ts';
import { quoted, StorageError } from './storage-error.ts';

const DTYPE_BYTES: Readonly<Record<string, number>> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
};
const METADATA = '__metadata__';
const MAX_RANK = 8;
const OPENING_BRACE = 0x7b;

export interface SafetensorsHeader {
  /** Name → place of every tensor. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Texts that the writer left; empty: none. */
  readonly metadata: Readonly<Record<string, string>>;
}

export interface TensorInfo {
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Range of bytes behind the header. */
  readonly begin: number;
  readonly end: number;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function parseMetadata(file: string, metadata: unknown): Readonly<Record<string, string>> {
  if (isObject(metadata) && Object.values(metadata).every((value) => typeof value === 'string')) {
    return metadata as Record<string, string>;
  }
  throw new StorageError('invalid', `${file}: expected ${METADATA} to be an object of texts.`);
}

/** Checks one entry of the header against the bytes there are. */
function parseEntry(file: string, name: string, entry: unknown, dataBytes: number): TensorInfo {
  const bad = (problem: string): never => {
    throw new StorageError('invalid', `${file}: tensor ${quoted(name)}: ${problem}.`);
  };
  if (!isObject(entry)) return bad('expected an object with dtype, shape and data_offsets');
  const { dtype, shape, data_offsets: offsets } = entry;
  const size = typeof dtype === 'string' && Object.hasOwn(DTYPE_BYTES, dtype) ? DTYPE_BYTES[dtype] : undefined;
  if (size === undefined) return bad(`expected a known dtype, ${quoted(dtype)} came`);
  if (!Array.isArray(shape) || shape.length > MAX_RANK || !shape.every(isCount)) {
    return bad(`expected a shape of at most ${MAX_RANK} whole numbers, ${quoted(shape)} came`);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    return bad(`expected two data_offsets, ${quoted(offsets)} came`);
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end || end > dataBytes) {
    return bad(`expected data_offsets within the ${dataBytes} bytes of data, [${begin}, ${end}] came`);
  }
  // a product too large to be exact is larger than any file, so it never equals the range
  const expected = shape.reduce((product, length) => product * length, size);
  if (expected !== end - begin) return bad(`expected ${expected} bytes for shape [${shape}], ${end - begin} came`);
  return { dtype: dtype as string, shape, begin, end };
}

function checkRanges(file: string, tensors: ReadonlyMap<string, TensorInfo>, dataBytes: number): void {
  let position = 0;
  for (const [name, { begin, end }] of [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)) {
    if (begin !== position) {
      const fault = begin < position ? 'overlaps another tensor' : 'leaves a hole before it';
      const message = `${file}: tensor ${quoted(name)} ${fault}: expected it to begin at byte ${position}, ${begin} came.`;
      throw new StorageError('invalid', message);
    }
    position = end;
  }
  if (position !== dataBytes) {
    throw new StorageError('invalid', `${file}: expected ${position} bytes of data, ${dataBytes} came.`);
  }
}

/** Throws StorageError naming `file` and the tensor at fault. */
export function parseSafetensorsHeader(file: string, header: Uint8Array, dataBytes: number): SafetensorsHeader {
  if (header[0] !== OPENING_BRACE) throw new StorageError('invalid', `${file}: expected a header that begins with {.`);
  const text = decodeText(header, file);
  const entries = Object.entries(parseJsonObject(text, file));
  if (countKeys(text, 1) !== entries.length) {
    throw new StorageError('invalid', `${file}: expected each name once in the header, one comes twice.`);
  }
  const tensors = new Map<string, TensorInfo>();
  let metadata: Readonly<Record<string, string>> = {};
  for (const [name, entry] of entries) {
    if (name === METADATA) metadata = parseMetadata(file, entry);
    else tensors.set(name, parseEntry(file, name, entry, dataBytes));
  }
  checkRanges(file, tensors, dataBytes);
  return { tensors, metadata };
}
