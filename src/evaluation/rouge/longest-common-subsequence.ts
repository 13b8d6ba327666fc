/**
 * Longest common subsequences, 32 table cells a step.
 *
 * The table has a row for each reference token and a column for each prediction token. Going down a column its numbers
 * grow by 0 or 1, so a column is a word of bits: 1 where the number stays, 0 where it grows. With `matches` the rows whose
 * token is the column's, the next column is (column + (column & matches)) | (column & ~matches): Hyyrö, "Bit-parallel
 * LCS-length computation revisited", 2004. Rows are cut into strips of 32; only the carries of the sum go from one
 * strip to the next, so memory grows with a text's length, not with the table.
 */
import type { Work, WorkMeter } from '../work.ts';

const STRIP = 32;
/** What a strip costs beside its columns, in steps. */
const STRIP_OVERHEAD = 32;

/** Steps that the table of so many rows and columns takes. */
export function tableSteps(rowCount: number, columnCount: number): number {
  return Math.ceil(rowCount / STRIP) * (columnCount + STRIP_OVERHEAD);
}

function countOnes(bits: number): number {
  const pairs = bits - ((bits >>> 1) & 0x55555555);
  const fours = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333);
  return Math.imul((fours + (fours >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Memory of one comparison, used again for each of its tables. */
export class LcsTables {
  /** [id] = the rows of the strip in work that have this token. */
  private readonly matches: Int32Array;
  /** The columns of the strip in work. */
  private readonly columns: Int32Array;
  /** Carries of a strip that has none above or below it: zeros that come in, anything that goes out. */
  private readonly noCarries: Int32Array;
  private readonly lostCarries: Int32Array;

  /** Token ids are below `tokenCount`, a table has at most `maxColumns` columns. */
  constructor(
    tokenCount: number,
    maxColumns: number,
    private readonly meter: WorkMeter,
  ) {
    this.matches = new Int32Array(tokenCount);
    this.columns = new Int32Array(maxColumns);
    this.noCarries = new Int32Array(Math.ceil(maxColumns / 32));
    this.lostCarries = new Int32Array(Math.ceil(maxColumns / 32));
  }

  /** Length of the longest common subsequence. */
  *length(reference: Int32Array, prediction: Int32Array): Work<number> {
    const carries = new Uint8Array(prediction.length);
    let length = 0;
    for (let top = 0; top < reference.length; top += STRIP) {
      const rows = reference.subarray(top, top + STRIP);
      this.markRows(rows);
      const grown = ~this.lastColumn(prediction, carries);
      length += countOnes(rows.length === STRIP ? grown : grown & ((1 << rows.length) - 1));
      this.clearRows(rows);
      if (this.meter.spend(prediction.length + STRIP_OVERHEAD)) yield;
    }
    return length;
  }

  /**
   * Marks the tokens of a reference sentence that are in the union of its common subsequences with the predicted ones.
   * Of several longest subsequences it takes that of the way back through the table which takes a match where there is
   * one, else goes left where the number above is lower than the number on the left, else up: the union depends on it.
   */
  *markUnion(sentence: Int32Array, predicted: readonly Int32Array[], marked: Uint8Array): Work<void> {
    if (sentence.length > STRIP) {
      for (const prediction of predicted) yield* this.markLong(sentence, prediction, marked);
      return;
    }
    this.markRows(sentence);
    for (const prediction of predicted) {
      this.fillColumns(prediction, this.noCarries, this.lostCarries);
      this.walkBack(prediction, prediction.length - 1, marked);
      if (this.meter.spend(prediction.length + STRIP_OVERHEAD)) yield;
    }
    this.clearRows(sentence);
  }

  private *markLong(sentence: Int32Array, prediction: Int32Array, marked: Uint8Array): Work<void> {
    const stripCount = Math.ceil(sentence.length / STRIP);
    const carryWords = Math.ceil(prediction.length / 32);
    // bits: the carries into each strip, from which the way back computes it again
    const carries = new Int32Array((stripCount + 1) * carryWords);
    const fillStrip = (strip: number): Int32Array => {
      const rows = sentence.subarray(strip * STRIP, (strip + 1) * STRIP);
      const [above, here, below] = [strip * carryWords, (strip + 1) * carryWords, (strip + 2) * carryWords];
      this.markRows(rows);
      this.fillColumns(prediction, carries.subarray(above, here), carries.subarray(here, below));
      return rows;
    };
    for (let strip = 0; strip < stripCount - 1; strip++) {
      this.clearRows(fillStrip(strip));
      if (this.meter.spend(prediction.length + STRIP_OVERHEAD)) yield;
    }
    let column = prediction.length - 1;
    for (let strip = stripCount - 1; strip >= 0 && column >= 0; strip--) {
      const rows = fillStrip(strip);
      column = this.walkBack(prediction, column, marked.subarray(strip * STRIP, strip * STRIP + rows.length));
      this.clearRows(rows);
      if (this.meter.spend(prediction.length + STRIP_OVERHEAD)) yield;
    }
  }

  private markRows(rows: Int32Array): void {
    const { matches } = this;
    for (let row = 0; row < rows.length; row++) {
      const id = rows[row] as number;
      matches[id] = (matches[id] as number) | (1 << row);
    }
  }

  private clearRows(rows: Int32Array): void {
    for (const id of rows) this.matches[id] = 0;
  }

  /** Goes through a strip; `carries` come in from the strip above and go out to the one below. */
  private lastColumn(prediction: Int32Array, carries: Uint8Array): number {
    const { matches } = this;
    let bits = -1;
    for (let column = 0; column < prediction.length; column++) {
      const common = bits & (matches[prediction[column] as number] as number);
      const sum = (bits + common + (carries[column] as number)) | 0;
      // the carry out of 32 bits: `common` is a part of `bits`
      carries[column] = (common | (bits & ~sum)) >>> 31;
      bits = sum | (bits ^ common);
    }
    return bits;
  }

  /** The same, keeping every column, with carries as bits. */
  private fillColumns(prediction: Int32Array, above: Int32Array, below: Int32Array): void {
    const { matches, columns } = this;
    let bits = -1;
    for (let column = 0; column < prediction.length; column++) {
      const common = bits & (matches[prediction[column] as number] as number);
      const place = column >>> 5;
      const sum = (bits + common + (((above[place] as number) >>> (column & 31)) & 1)) | 0;
      const carry = (common | (bits & ~sum)) >>> 31;
      below[place] = (below[place] as number) | (carry << (column & 31));
      bits = sum | (bits ^ common);
      columns[column] = bits;
    }
  }

  /** Walks from the strip's last row to above its first; returns the column where it leaves, -1 at the table's edge. */
  private walkBack(prediction: Int32Array, from: number, marked: Uint8Array): number {
    const { matches, columns } = this;
    let column = from;
    let row = marked.length - 1;
    while (column >= 0 && row >= 0) {
      const matching = matches[prediction[column] as number] as number;
      // up to the next row where there is a match, or the number grows and the way goes left
      const stops = (matching | ~(columns[column] as number)) & (-1 >>> (31 - row));
      if (stops === 0) return column;
      row = 31 - Math.clz32(stops);
      if (((matching >>> row) & 1) === 1) marked[row--] = 1;
      column--;
    }
    return column;
  }
}
