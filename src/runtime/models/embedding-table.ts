/** The table of word embeddings, which graphs are fed from and `embed` reads. */
export class EmbeddingTable {
  /** `table` [vocabulary, size] */
  constructor(
    private readonly table: Float32Array,
    private readonly size: number,
  ) {}

  /** The rows of these ids, [length, size]; those beyond the ids stay zero. Default length: as many as ids. */
  rows(tokenIds: readonly number[] | Int32Array, length = tokenIds.length): Float32Array {
    const { table, size } = this;
    const rows = new Float32Array(length * size);
    for (const [row, id] of tokenIds.entries()) rows.set(table.subarray(id * size, (id + 1) * size), row * size);
    return rows;
  }
}
