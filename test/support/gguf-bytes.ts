/** Bytes of GGUF files, good ones and lying ones. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Cleanup } from './cleanup.ts';
import { temporaryFolder } from './tiny-model.ts';

/** A value with its type; texts, bools and whole numbers (int32) may stand alone. */
export type MetadataValue = string | boolean | number | Typed | readonly string[];

interface Typed {
  readonly type: number;
  /** What follows the type. */
  readonly bytes: Uint8Array;
}

export interface TensorToEncode {
  /** In row-major order. */
  readonly shape: readonly (number | bigint)[];
  /** Number of its type; default 0, F32. */
  readonly type?: number;
  readonly data: Uint8Array;
  /** Default: behind the one before, aligned. */
  readonly offset?: number | bigint;
}

export interface GgufParts {
  readonly magic?: string;
  readonly version?: number;
  readonly tensorCount?: number | bigint;
  readonly metadataCount?: number | bigint;
  readonly metadata?: readonly (readonly [string, MetadataValue])[];
  readonly tensors?: readonly (readonly [string, TensorToEncode])[];
  /** Default 32; says nothing in the metadata. */
  readonly alignment?: number;
  /** Whether the last tensor is padded too; default true. */
  readonly padded?: boolean;
}

export const VALUE_TYPE = {
  uint8: 0,
  uint32: 4,
  int32: 5,
  float32: 6,
  bool: 7,
  string: 8,
  array: 9,
  uint64: 10,
} as const;

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function uint64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

export function text(value: string | Uint8Array): Buffer {
  const bytes = Buffer.from(value as string);
  return Buffer.concat([uint64(bytes.length), bytes]);
}

/** A float32 of the metadata. */
export function float(value: number): Typed {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return { type: VALUE_TYPE.float32, bytes };
}

/** An array of int32. */
export function integers(values: readonly number[]): Typed {
  const bytes = Buffer.from(Int32Array.from(values).buffer);
  return { type: VALUE_TYPE.array, bytes: Buffer.concat([uint32(VALUE_TYPE.int32), uint64(values.length), bytes]) };
}

/** The bytes of float32 values. */
export function floats(values: readonly number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}

function typed(value: MetadataValue): Typed {
  if (typeof value === 'string') return { type: VALUE_TYPE.string, bytes: text(value) };
  if (typeof value === 'boolean') return { type: VALUE_TYPE.bool, bytes: Buffer.of(Number(value)) };
  if (typeof value === 'number') return { type: VALUE_TYPE.uint32, bytes: uint32(value) };
  if ('bytes' in value) return value;
  const items = value.map(text);
  return { type: VALUE_TYPE.array, bytes: Buffer.concat([uint32(VALUE_TYPE.string), uint64(items.length), ...items]) };
}

function paddingOf(length: number, alignment: number): Buffer {
  return Buffer.alloc(Math.ceil(length / alignment) * alignment - length);
}

/** Returns the bytes of a file. Parts that say something false are written as they are. */
export function encodeGguf(parts: GgufParts): Buffer {
  const { magic = 'GGUF', version = 3, metadata = [], tensors = [], alignment = 32, padded = true } = parts;
  const head: Uint8Array[] = [Buffer.from(magic), uint32(version)];
  head.push(uint64(parts.tensorCount ?? tensors.length), uint64(parts.metadataCount ?? metadata.length));
  for (const [key, value] of metadata) {
    const { type, bytes } = typed(value);
    head.push(text(key), uint32(type), bytes);
  }
  const data: Uint8Array[] = [];
  let length = 0;
  for (const [index, [name, tensor]] of tensors.entries()) {
    head.push(text(name), uint32(tensor.shape.length), ...[...tensor.shape].reverse().map(uint64));
    head.push(uint32(tensor.type ?? 0), uint64(tensor.offset ?? length));
    const last = index === tensors.length - 1;
    const padding = last && !padded ? Buffer.alloc(0) : paddingOf(length + tensor.data.length, alignment);
    data.push(tensor.data, padding);
    length += tensor.data.length + padding.length;
  }
  const header = Buffer.concat(head);
  return Buffer.concat([header, paddingOf(header.length, alignment), ...data]);
}

/** Returns a path of its own, model.gguf, with these bytes; undefined: with nothing there. */
export async function writeGguf(t: Cleanup, bytes: Uint8Array | undefined): Promise<string> {
  const path = join(await temporaryFolder(t), 'model.gguf');
  if (bytes !== undefined) await writeFile(path, bytes);
  return path;
}
