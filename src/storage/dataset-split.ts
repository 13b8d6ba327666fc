/**
 * One split of a dataset: a file of samples that nobody vouches for. It is checked as a whole before anything relies on
 * it, and read as a stream, so that its size costs no memory beyond the ids, which must differ.
 */
import { createHash } from 'node:crypto';
import { BoundedFile, findFile } from './bounded-file.ts';
import {
  type DatasetColumns,
  type DatasetSample,
  findColumns,
  type SplitColumns,
  toSample,
} from './dataset-columns.ts';
import { type DatasetFormat, type DatasetRow, readRows } from './dataset-rows.ts';
import { placeOf } from './record-splitters.ts';
import { quoted, StorageError } from './storage-error.ts';

/** Ids of so many take some 60 MB while a split is checked. */
const MAX_SAMPLES = 1_000_000;

/** What a check found. */
export interface SplitFacts {
  readonly sampleCount: number;
  readonly columns: SplitColumns;
  /** Of the whole file, in hexadecimal digits. */
  readonly sha256: string;
  /** Of the file that was checked: another version is checked anew. */
  readonly version: string;
}

/** Where a split's file is, and what its columns mean. */
export interface SplitSource {
  readonly folder: string;
  readonly file: string;
  readonly format: DatasetFormat;
  /** What messages call the file. */
  readonly name: string;
  readonly columns: DatasetColumns;
}

export class DatasetSplit {
  private constructor(
    private readonly file: BoundedFile,
    private readonly source: SplitSource,
  ) {}

  static async open(source: SplitSource): Promise<DatasetSplit> {
    const { folder, file, name } = source;
    const path = await findFile(folder, file);
    if (path === undefined) throw new StorageError('missing', `Expected a file ${name}, there is none.`);
    return new DatasetSplit(await BoundedFile.open(path, name), source);
  }

  /** Another one after somebody wrote to the file. */
  get version(): string {
    return this.file.version;
  }

  /** Reads and checks every sample; throws StorageError at the first that is wrong. */
  async check(signal?: AbortSignal): Promise<SplitFacts> {
    const { columns: wanted, name } = this.source;
    const hash = createHash('sha256');
    const ids = new Set<string>();
    let columns: SplitColumns | undefined;
    let sampleCount = 0;
    const look = (piece: Buffer): void => {
      signal?.throwIfAborted();
      hash.update(piece);
    };
    for await (const row of this.rows(look)) {
      const place = placeOf(name, row.line);
      if (sampleCount === MAX_SAMPLES) {
        const message = `${place}: expected at most ${MAX_SAMPLES} samples, more came. Make several splits of it.`;
        throw new StorageError('invalid', message);
      }
      const values = row.values();
      columns ??= findColumns(wanted, values, place);
      const { id } = toSample(values, sampleCount, { wanted, columns, place });
      if (ids.has(id)) {
        throw new StorageError('invalid', `${place}: expected an id of its own, ${quoted(id)} came before.`);
      }
      if (columns.id !== null) ids.add(id);
      sampleCount++;
    }
    if (columns === undefined) {
      throw new StorageError('invalid', `${name}: expected at least one sample, the file has none.`);
    }
    return { sampleCount, columns, sha256: hash.digest('hex'), version: this.version };
  }

  /** Yields the samples of ascending indexes. */
  async *samples(columns: SplitColumns, indexes: Iterable<number>): AsyncGenerator<DatasetSample> {
    const { columns: wanted, name } = this.source;
    const asked = indexes[Symbol.iterator]();
    let next = asked.next();
    let index = 0;
    if (next.done) return;
    for await (const row of this.rows()) {
      if (index === next.value) {
        yield toSample(row.values(), index, { wanted, columns, place: placeOf(name, row.line) });
        next = asked.next();
        if (next.done) return;
      }
      index++;
    }
    throw new StorageError('invalid', `${name}: expected a sample ${next.value}, there are only ${index}.`);
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  private async *pieces(onPiece?: (piece: Buffer) => void): AsyncGenerator<Buffer> {
    for await (const piece of this.file.pieces()) {
      onPiece?.(piece);
      yield piece;
    }
  }

  private rows(onPiece?: (piece: Buffer) => void): AsyncGenerator<DatasetRow> {
    return readRows(this.pieces(onPiece), this.source.format, this.source.name);
  }
}
