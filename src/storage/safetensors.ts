/**
 * Safetensors files: 8 bytes of header length, a JSON header, the data. They are read as hostile input: nothing is
 * allocated on the word of a header before it was held against the size of the file.
 */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { BoundedFile } from './bounded-file.ts';
import { type FloatType, fromFloat32, isFloatType, toFloat32 } from './float-conversion.ts';
import { parseSafetensorsHeader, type SafetensorsHeader } from './safetensors-header.ts';
import { quoted, StorageError } from './storage-error.ts';
import { writeWholeFile } from './whole-files.ts';

/** The format's own bound on a header. */
const MAX_HEADER_BYTES = 100_000_000;
const LENGTH_BYTES = 8;
const HASHED_AT_ONCE = 2 ** 22;

/** Throws StorageError when a value is NaN or infinite. */
export function checkFinite(values: Float32Array, where: string): void {
  for (let index = 0; index < values.length; index++) {
    const value = values[index] as number;
    if (!Number.isFinite(value)) {
      throw new StorageError('invalid', `${where}: expected finite values, ${value} stands at ${index}.`);
    }
  }
}

export class SafetensorsFile {
  private constructor(
    private readonly file: BoundedFile,
    private readonly dataStart: number,
    private readonly header: SafetensorsHeader,
  ) {}

  /** Opens a file and checks its header. Throws StorageError; the data is read tensor by tensor later. */
  static async open(path: string, maxHeaderBytes = MAX_HEADER_BYTES): Promise<SafetensorsFile> {
    const name = basename(path);
    const file = await BoundedFile.open(path, name);
    try {
      const { size } = file;
      if (size < LENGTH_BYTES) {
        throw new StorageError('invalid', `${name}: expected a safetensors file, it has only ${size} bytes.`);
      }
      const prefix = Buffer.alloc(LENGTH_BYTES);
      await file.readInto(prefix, 0);
      const headerBytes = prefix.readBigUInt64LE(0);
      const limit = Math.min(maxHeaderBytes, size - LENGTH_BYTES);
      if (headerBytes > BigInt(limit)) {
        const message = `${name}: expected a header of at most ${limit} bytes, it claims ${headerBytes}: the file is truncated or no safetensors file.`;
        throw new StorageError('invalid', message);
      }
      const header = new Uint8Array(Number(headerBytes));
      await file.readInto(header, LENGTH_BYTES);
      const dataStart = LENGTH_BYTES + header.length;
      return new SafetensorsFile(file, dataStart, parseSafetensorsHeader(name, header, size - dataStart));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  get tensors(): SafetensorsHeader['tensors'] {
    return this.header.tensors;
  }

  get metadata(): SafetensorsHeader['metadata'] {
    return this.header.metadata;
  }

  /** Reads one tensor as float32. Refuses other than float types, and values that are not finite. */
  async read(tensorName: string): Promise<Float32Array> {
    const info = this.tensors.get(tensorName);
    const where = `${this.file.name}: tensor ${quoted(tensorName)}`;
    if (info === undefined) throw new StorageError('invalid', `${where}: expected it, it is missing.`);
    const { dtype, begin, end } = info;
    if (!isFloatType(dtype)) {
      throw new StorageError('invalid', `${where}: expected float32, float16 or bfloat16, ${dtype} came.`);
    }
    const bytes = new Uint8Array(end - begin);
    await this.file.readInto(bytes, this.dataStart + begin);
    const values = toFloat32(bytes, dtype);
    checkFinite(values, where);
    return values;
  }

  get size(): number {
    return this.file.size;
  }

  /** Returns the SHA-256 of the whole file, in hexadecimal digits. */
  async hash(): Promise<string> {
    const hash = createHash('sha256');
    const chunk = new Uint8Array(Math.min(this.size, HASHED_AT_ONCE));
    for (let position = 0; position < this.size; position += chunk.length) {
      const part = chunk.subarray(0, Math.min(chunk.length, this.size - position));
      await this.file.readInto(part, position);
      hash.update(part);
    }
    return hash.digest('hex');
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}

export interface TensorToWrite {
  readonly shape: readonly number[];
  readonly data: Float32Array;
  /** Default F32. Narrower types round to the nearest value. */
  readonly dtype?: FloatType;
}

/** What readers of Hugging Face's libraries expect. */
const FROM_PYTORCH = { format: 'pt' };
const WIDE_BYTES = 4;
const NARROW_BYTES = 2;
const WRITE_ORDER: readonly FloatType[] = ['F32', 'BF16', 'F16'];

interface Layout {
  /** Length and header: what stands before the data. */
  readonly head: Uint8Array;
  /** In the order of the data. */
  readonly tensors: readonly TensorToWrite[];
}

/** In the order of the official writer: wide types first, then by name. */
function layOut(tensors: ReadonlyMap<string, TensorToWrite>, metadata: Readonly<Record<string, string>>): Layout {
  const header: [string, unknown][] = [['__metadata__', metadata]];
  const ordered: TensorToWrite[] = [];
  let offset = 0;
  for (const type of WRITE_ORDER) {
    const names = [...tensors.keys()].filter((name) => (tensors.get(name)?.dtype ?? 'F32') === type);
    for (const name of names.sort()) {
      const tensor = tensors.get(name) as TensorToWrite;
      const end = offset + tensor.data.length * (type === 'F32' ? WIDE_BYTES : NARROW_BYTES);
      header.push([name, { dtype: type, shape: tensor.shape, data_offsets: [offset, end] }]);
      ordered.push(tensor);
      offset = end;
    }
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(header)));
  // spaces behind the JSON align the data to 8 bytes
  const text = Buffer.alloc(Math.ceil(json.length / LENGTH_BYTES) * LENGTH_BYTES, ' ');
  json.copy(text);
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeBigUInt64LE(BigInt(text.length));
  return { head: Buffer.concat([length, text]), tensors: ordered };
}

function bytesOf({ data, dtype = 'F32' }: TensorToWrite): Uint8Array {
  return fromFloat32(data, dtype);
}

/** Returns the bytes of a safetensors file. */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, TensorToWrite>,
  metadata: Readonly<Record<string, string>> = FROM_PYTORCH,
): Uint8Array {
  const layout = layOut(tensors, metadata);
  return Buffer.concat([layout.head, ...layout.tensors.map(bytesOf)]);
}

/** Writes a safetensors file whole or not at all, tensor by tensor: the file as such is never in memory. */
export function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, TensorToWrite>,
  metadata: Readonly<Record<string, string>> = FROM_PYTORCH,
): Promise<void> {
  return writeWholeFile(path, async (handle) => {
    const layout = layOut(tensors, metadata);
    await handle.writeFile(layout.head);
    for (const tensor of layout.tensors) await handle.writeFile(bytesOf(tensor));
  });
}
