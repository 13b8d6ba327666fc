/**
 * Which entries of a request's cache each of its rows reads: row → entry by position. Beams that share a past share
 * its entries, so following another beam moves no keys or values, only these small lists; entries that no row reads
 * are given to new tokens. What is given to whom depends on the request alone, never on its batch mates.
 */
import { invariant } from '../errors.ts';

export class RowPaths {
  private paths: (readonly number[])[];
  private highest = 0;

  constructor(rowCount = 1) {
    this.paths = Array.from({ length: rowCount }, () => []);
  }

  get rowCount(): number {
    return this.paths.length;
  }

  /** Number of entries from the first to the last one in use. */
  get extent(): number {
    return this.highest;
  }

  /** The entries that a row reads, by position. */
  path(row: number): readonly number[] {
    const path = this.paths[row];
    invariant(path !== undefined, `row ${row} runs`);
    return path;
  }

  /**
   * Takes the rows of the next step, each by the row that it continues. Returns for each row of the step just made
   * the entry where its new keys and values belong; -1 when nobody continues it.
   */
  advance(parents: readonly number[]): readonly number[] {
    const continued = new Set(parents);
    const used = new Set<number>();
    for (const row of continued) for (const entry of this.path(row)) used.add(entry);
    let free = 0;
    const entries = this.paths.map((_, row) => {
      if (!continued.has(row)) return -1;
      while (used.has(free)) free++;
      return free++;
    });
    const longer = this.paths.map((path, row) => (continued.has(row) ? [...path, entries[row] as number] : []));
    this.paths = parents.map((row) => longer[row] as readonly number[]);
    this.highest = 0;
    for (const entry of used) this.highest = Math.max(this.highest, entry + 1);
    for (const entry of entries) this.highest = Math.max(this.highest, entry + 1);
    return entries;
  }
}
