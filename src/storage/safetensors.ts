/**
 * Reads safetensors files as hostile input (https://github.com/huggingface/safetensors, format 0.x): 8 bytes of header
 * length, a JSON header, the data. Nothing is allocated on the word of a header before it was held against the file.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { basename } from 'node:path';
import { FLOAT_BYTES, type FloatType, toFloat32 } from './float-conversion.ts';
import { StorageError } from './storage-error.ts';

/** The format's own bound on a header. */
const MAX_HEADER_BYTES = 100_000_000;
const LENGTH_BYTES = 8;

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

export interface TensorInfo {
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Range of bytes behind the header. */
  readonly begin: number;
  readonly end: number;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Checks one entry of the header against the bytes there are. */
function parseEntry(file: string, name: string, entry: unknown, dataBytes: number): TensorInfo {
  const bad = (problem: string): never => {
    throw new StorageError('invalid', `${file}: tensor ${JSON.stringify(name)}: ${problem}.`);
  };
  if (!isObject(entry)) return bad('expected an object with dtype, shape and data_offsets');
  const { dtype, shape, data_offsets: offsets } = entry;
  const size = typeof dtype === 'string' && Object.hasOwn(DTYPE_BYTES, dtype) ? DTYPE_BYTES[dtype] : undefined;
  if (size === undefined) return bad(`expected a known dtype, ${JSON.stringify(dtype)} came`);
  if (!Array.isArray(shape) || shape.length > 8 || !shape.every(isCount))
    return bad('expected a shape of whole numbers');
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount))
    return bad('expected two data_offsets');
  const [begin, end] = offsets as [number, number];
  if (begin > end || end > dataBytes) {
    return bad(`expected data_offsets within the ${dataBytes} bytes of data, [${begin}, ${end}] came`);
  }
  const expected = shape.reduce((product, length) => product * length, size);
  if (expected !== end - begin) return bad(`expected ${expected} bytes for shape [${shape}], ${end - begin} came`);
  return { dtype: dtype as string, shape, begin, end };
}

function parseHeader(file: string, json: string, dataBytes: number): ReadonlyMap<string, TensorInfo> {
  let header: unknown;
  try {
    header = JSON.parse(json);
  } catch (cause) {
    throw new StorageError('invalid', `${file}: expected a JSON header, it does not parse.`, { cause });
  }
  if (!isObject(header)) throw new StorageError('invalid', `${file}: expected a JSON object as header.`);
  const tensors = new Map<string, TensorInfo>();
  for (const [name, entry] of Object.entries(header)) {
    if (name !== '__metadata__') tensors.set(name, parseEntry(file, name, entry, dataBytes));
  }
  // the format asks for data without holes and overlaps
  let position = 0;
  for (const [name, { begin, end }] of [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)) {
    if (begin !== position) {
      const message = `${file}: tensor ${JSON.stringify(name)} begins at byte ${begin}, expected ${position}: tensors overlap or leave a hole.`;
      throw new StorageError('invalid', message);
    }
    position = end;
  }
  if (position !== dataBytes) {
    throw new StorageError('invalid', `${file}: expected ${position} bytes of data, ${dataBytes} came.`);
  }
  return tensors;
}

export class SafetensorsFile {
  private constructor(
    private readonly name: string,
    private readonly handle: FileHandle,
    private readonly dataStart: number,
    readonly tensors: ReadonlyMap<string, TensorInfo>,
  ) {}

  static async open(path: string): Promise<SafetensorsFile> {
    const name = basename(path);
    const handle = await open(path, 'r');
    try {
      const { size } = await handle.stat();
      const prefix = await readAt(handle, name, 0, Math.min(LENGTH_BYTES, size));
      if (prefix.length < LENGTH_BYTES) {
        throw new StorageError('invalid', `${name}: expected a safetensors file, it has only ${size} bytes.`);
      }
      const headerBytes = prefix.readBigUInt64LE(0);
      if (headerBytes > BigInt(Math.min(MAX_HEADER_BYTES, size - LENGTH_BYTES))) {
        const message = `${name}: the header claims ${headerBytes} bytes, the file has ${size}: it is truncated or no safetensors file.`;
        throw new StorageError('invalid', message);
      }
      const dataStart = LENGTH_BYTES + Number(headerBytes);
      const header = await readAt(handle, name, LENGTH_BYTES, Number(headerBytes));
      return new SafetensorsFile(name, handle, dataStart, parseHeader(name, header.toString('utf8'), size - dataStart));
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** Reads one tensor as float32. Refuses other than float types, and values that are not finite. */
  async read(tensorName: string): Promise<Float32Array> {
    const info = this.tensors.get(tensorName);
    if (info === undefined)
      throw new StorageError('invalid', `${this.name}: expected tensor ${tensorName}, it is missing.`);
    if (!Object.hasOwn(FLOAT_BYTES, info.dtype)) {
      const message = `${this.name}: tensor ${tensorName}: expected float32, float16 or bfloat16, ${info.dtype} came.`;
      throw new StorageError('invalid', message);
    }
    const bytes = await readAt(this.handle, this.name, this.dataStart + info.begin, info.end - info.begin);
    const values = toFloat32(bytes, info.dtype as FloatType);
    const bad = values.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0) {
      const message = `${this.name}: tensor ${tensorName}: expected finite values, ${values[bad]} stands at ${bad}.`;
      throw new StorageError('invalid', message);
    }
    return values;
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

async function readAt(handle: FileHandle, name: string, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(buffer, done, length - done, position + done);
    if (bytesRead === 0) throw new StorageError('invalid', `${name}: the file ended ${length - done} bytes early.`);
    done += bytesRead;
  }
  return buffer;
}

/** Returns the bytes of a safetensors file of float32 tensors. */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>,
): Uint8Array {
  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const [name, { shape, data }] of tensors) {
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  const json = JSON.stringify(header);
  // spaces align the data to 8 bytes, as the format recommends
  const text = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8));
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeBigUInt64LE(BigInt(text.length));
  const parts = [...tensors.values()].map(({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  return Buffer.concat([length, text, ...parts]);
}
