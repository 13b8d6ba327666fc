/** The table of word embeddings, which graphs are fed from and `embed` reads. */

import { LARGEST_BYTE } from '../graph/quantized-linear.ts';

export interface EmbeddingTable {
  /** The rows of these ids, [length, size]; those beyond the ids stay zero. Default length: as many as ids. */
  rows(tokenIds: readonly number[] | Int32Array, length?: number): Float32Array;
  readonly byteLength: number;
}

export class FloatTable implements EmbeddingTable {
  /** `table` [vocabulary, size] */
  constructor(
    private readonly table: Float32Array,
    private readonly size: number,
  ) {}

  get byteLength(): number {
    return this.table.byteLength;
  }

  rows(tokenIds: readonly number[] | Int32Array, length = tokenIds.length): Float32Array {
    const { table, size } = this;
    const rows = new Float32Array(length * size);
    for (const [row, id] of tokenIds.entries()) rows.set(table.subarray(id * size, (id + 1) * size), row * size);
    return rows;
  }
}

/** In 8 bits, a scale a row. */
export class ByteTable implements EmbeddingTable {
  private readonly bytes: Int8Array;
  private readonly scales: Float32Array;

  /** `table` [vocabulary, size]; not kept. */
  constructor(
    table: Float32Array,
    private readonly size: number,
  ) {
    this.bytes = new Int8Array(table.length);
    this.scales = new Float32Array(table.length / size);
    for (let id = 0; id < this.scales.length; id++) {
      const row = table.subarray(id * size, (id + 1) * size);
      const scale = row.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0) / LARGEST_BYTE || 1;
      this.scales[id] = scale;
      for (const [index, value] of row.entries()) this.bytes[id * size + index] = Math.round(value / scale);
    }
  }

  get byteLength(): number {
    return this.bytes.byteLength + this.scales.byteLength;
  }

  rows(tokenIds: readonly number[] | Int32Array, length = tokenIds.length): Float32Array {
    const { bytes, scales, size } = this;
    const rows = new Float32Array(length * size);
    for (const [row, id] of tokenIds.entries()) {
      const scale = scales[id] as number;
      for (let index = 0; index < size; index++) {
        rows[row * size + index] = (bytes[id * size + index] as number) * scale;
      }
    }
    return rows;
  }
}
