/**
 * The header of a GGUF file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3): metadata and
 * the places of the tensors, held against the size of the file before anything is made to their measure. Tensors must
 * fill the data in whole blocks, aligned, without holes or overlaps, as every writer lays them out.
 */
import type { BoundedFile } from '../bounded-file.ts';
import { quoted } from '../storage-error.ts';
import { type GgufValue, MetadataReader } from './gguf-metadata.ts';
import { HeaderCursor } from './header-cursor.ts';
import { type GgufTensorType, nameOfOtherType, readTypeNames, tensorType } from './tensor-types.ts';

const MAGIC = 0x46554747;
const VERSIONS = [2, 3];
const DEFAULT_ALIGNMENT = 32;
const ALIGNMENT_KEY = 'general.alignment';
/** Vocabulary and merges of the largest published models take some 20 MB. */
const MAX_HEADER_BYTES = 2 ** 26;
const MAX_ENTRIES = 2 ** 16;
const MAX_KEY_BYTES = 2 ** 16 - 1;
const MAX_NAME_BYTES = 64;
const MAX_RANK = 4;
/** Of a name of one byte with its length, a type and the smallest value; of a name, a rank, one size, a type, an offset. */
const LEAST_METADATA_BYTES = 14;
const LEAST_TENSOR_BYTES = 33;

export interface GgufTensorInfo {
  /** In row-major order, as PyTorch has it: the file lists the sizes the other way round. */
  readonly shape: readonly number[];
  /** Name of its type: F32, Q4_K, … */
  readonly dtype: string;
  /** Range of bytes in the file. */
  readonly offset: number;
  readonly byteLength: number;
}

interface GgufTensor extends GgufTensorInfo {
  readonly type: GgufTensorType;
}

export interface GgufHeader {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

class HeaderParser {
  private readonly cursor: HeaderCursor;

  constructor(private readonly file: BoundedFile) {
    this.cursor = new HeaderCursor(file, Math.min(file.size, MAX_HEADER_BYTES));
  }

  private bad(problem: string): never {
    return this.cursor.fail(problem);
  }

  async parse(): Promise<GgufHeader> {
    await this.checkVersion();
    const tensorCount = await this.count('tensors', LEAST_TENSOR_BYTES);
    const metadataCount = await this.count('metadata entries', LEAST_METADATA_BYTES);
    const metadata = await this.metadata(metadataCount);
    const alignment = this.alignment(metadata);
    const tensors = await this.tensors(tensorCount);
    return { metadata, tensors: this.place(tensors, alignment) };
  }

  private async checkVersion(): Promise<void> {
    const magic = await this.cursor.uint32();
    if (magic !== MAGIC) this.bad('expected a GGUF file, which begins with the letters GGUF; other bytes came');
    const version = await this.cursor.uint32();
    if (VERSIONS.includes(version)) return;
    if (version % 2 ** 16 === 0) return this.bad('expected a little-endian file, a big-endian one came. Convert it');
    return this.bad(`expected GGUF version ${VERSIONS.join(' or ')}, version ${version} came. Convert the model again`);
  }

  /** A number of things that take so many bytes each at least. */
  private async count(what: string, leastBytes: number): Promise<number> {
    const claimed = await this.cursor.uint64();
    const most = Math.min(MAX_ENTRIES, Math.floor(this.cursor.bytesLeft / leastBytes));
    if (claimed <= most) return Number(claimed);
    return this.bad(`expected at most ${most} ${what} in a file of ${this.file.size} bytes, it claims ${claimed}`);
  }

  private async name(what: string, maxBytes: number): Promise<string> {
    const name = await this.cursor.text(what, maxBytes);
    return name === '' ? this.bad(`${what}: expected a text, an empty one came`) : name;
  }

  private async metadata(count: number): Promise<ReadonlyMap<string, GgufValue>> {
    const metadata = new Map<string, GgufValue>();
    while (metadata.size < count) {
      const key = await this.name('a key of the metadata', MAX_KEY_BYTES);
      if (metadata.has(key)) this.bad(`expected each key of the metadata once, ${quoted(key)} comes twice`);
      metadata.set(key, await new MetadataReader(this.cursor, key).value());
    }
    return metadata;
  }

  private alignment(metadata: ReadonlyMap<string, GgufValue>): number {
    const value = metadata.get(ALIGNMENT_KEY) ?? DEFAULT_ALIGNMENT;
    const power = typeof value === 'number' && Number.isInteger(Math.log2(value)) && value >= 1 && value <= 2 ** 31;
    return power ? value : this.bad(`expected ${ALIGNMENT_KEY} to be a power of two, ${quoted(value)} came`);
  }

  private async tensors(count: number): Promise<Map<string, GgufTensor>> {
    const tensors = new Map<string, GgufTensor>();
    while (tensors.size < count) {
      const name = await this.name('the name of a tensor', MAX_NAME_BYTES);
      if (tensors.has(name)) this.bad(`expected each name of a tensor once, ${quoted(name)} comes twice`);
      tensors.set(name, await this.tensor(`tensor ${quoted(name)}`));
    }
    return tensors;
  }

  private async tensor(where: string): Promise<GgufTensor> {
    const rank = await this.cursor.uint32();
    if (rank < 1 || rank > MAX_RANK) this.bad(`${where}: expected 1 to ${MAX_RANK} dimensions, ${rank} came`);
    const sizes: bigint[] = [];
    while (sizes.length < rank) sizes.push(await this.cursor.uint64());
    const id = await this.cursor.uint32();
    const type = tensorType(id);
    if (type === undefined) {
      return this.bad(`${where}: expected one of the types ${readTypeNames()}, ${nameOfOtherType(id)} came`);
    }
    const offset = await this.cursor.uint64();
    const byteLength = this.byteLength(where, sizes, type);
    if (offset > this.file.size) {
      this.bad(`${where}: expected it to begin within the file of ${this.file.size} bytes, offset ${offset} came`);
    }
    return { shape: sizes.map(Number).reverse(), dtype: type.name, type, offset: Number(offset), byteLength };
  }

  private byteLength(where: string, sizes: readonly bigint[], { name, blockSize, blockBytes }: GgufTensorType): number {
    if (sizes.some((size) => size < 1n)) this.bad(`${where}: expected sizes of at least 1, [${sizes}] came`);
    const [rowLength = 1n] = sizes;
    if (rowLength % BigInt(blockSize) !== 0n) {
      this.bad(`${where}: expected rows of whole blocks of ${blockSize} values (${name}), rows of ${rowLength} came`);
    }
    const elements = sizes.reduce((product, size) => product * size, 1n);
    const bytes = (elements / BigInt(blockSize)) * BigInt(blockBytes);
    if (bytes <= this.file.size) return Number(bytes);
    return this.bad(`${where}: expected at most the ${this.file.size} bytes of the file, [${sizes}] takes ${bytes}`);
  }

  /** Counts offsets from the beginning of the file instead of the data, and checks that they leave nothing out. */
  private place(tensors: ReadonlyMap<string, GgufTensor>, alignment: number): ReadonlyMap<string, GgufTensor> {
    const aligned = (position: number): number => Math.ceil(position / alignment) * alignment;
    const dataStart = aligned(this.cursor.position);
    const placed = new Map<string, GgufTensor>();
    let end = dataStart;
    for (const [name, tensor] of [...tensors].sort(([, a], [, b]) => a.offset - b.offset)) {
      const offset = dataStart + tensor.offset;
      const expected = aligned(end);
      if (offset !== expected) {
        const fault = offset < end ? 'overlaps another one' : 'is not where the one before it ends, aligned';
        this.bad(`tensor ${quoted(name)} ${fault}: expected byte ${expected} of the file, ${offset} came`);
      }
      end = offset + tensor.byteLength;
      placed.set(name, { ...tensor, offset });
    }
    const { size } = this.file;
    // without tensors no padding need follow the header
    const unpadded = tensors.size === 0 ? this.cursor.position : end;
    if (size !== unpadded && size !== aligned(end)) {
      this.bad(`expected a file of ${unpadded} bytes, or ${aligned(end)} with padding, ${size} came`);
    }
    return placed;
  }
}

/** Throws StorageError naming the file and the key or tensor at fault. */
export function parseGgufHeader(file: BoundedFile): Promise<GgufHeader> {
  return new HeaderParser(file).parse();
}
