/** GGUF files: a header with metadata, then tensors, most of them quantized. They are read as hostile input. */
import { basename } from 'node:path';
import { BoundedFile } from '../bounded-file.ts';
import { checkFinite } from '../safetensors.ts';
import { quoted, StorageError } from '../storage-error.ts';
import { type GgufHeader, type GgufTensorInfo, parseGgufHeader } from './gguf-header.ts';

export class GgufFile {
  private constructor(
    private readonly file: BoundedFile,
    private readonly header: GgufHeader,
  ) {}

  /** Opens a file and checks its header. Throws StorageError; the data is read tensor by tensor later. */
  static async open(path: string): Promise<GgufFile> {
    const file = await BoundedFile.open(path, basename(path));
    try {
      return new GgufFile(file, await parseGgufHeader(file));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** As messages call it. */
  get name(): string {
    return this.file.name;
  }

  get metadata(): GgufHeader['metadata'] {
    return this.header.metadata;
  }

  get tensors(): ReadonlyMap<string, GgufTensorInfo> {
    return this.header.tensors;
  }

  /** Reads one tensor as float32, dequantized. Refuses values that are not finite. */
  async read(tensorName: string): Promise<Float32Array> {
    const tensor = this.header.tensors.get(tensorName);
    const where = `${this.file.name}: tensor ${quoted(tensorName)}`;
    if (tensor === undefined) throw new StorageError('invalid', `${where}: expected it, it is missing.`);
    const bytes = new Uint8Array(tensor.byteLength);
    await this.file.readInto(bytes, tensor.offset);
    const values = tensor.type.toFloat32(bytes);
    checkFinite(values, where);
    return values;
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}
