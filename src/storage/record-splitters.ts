/**
 * Cuts bytes that come in pieces into the texts of records: one a line, lines of CSV whose quotes may hold line ends, or
 * the objects of one array. It looks for where a text begins and ends and in which line; what a text holds is for the
 * parsers to say.
 */
import { quoted, StorageError } from './storage-error.ts';

/** Parsing holds the event loop for milliseconds at this length, which no model takes as input. */
export const MAX_RECORD_BYTES = 2 ** 20;

const [TAB, NEWLINE, RETURN, SPACE] = [0x09, 0x0a, 0x0d, 0x20];
const [QUOTE, BACKSLASH, COMMA] = [0x22, 0x5c, 0x2c];
const [LIST_OPEN, LIST_CLOSE, OBJECT_OPEN, OBJECT_CLOSE] = [0x5b, 0x5d, 0x7b, 0x7d];

export interface FileRecord {
  /** Where it begins; the first line is 1. */
  readonly line: number;
  readonly bytes: Uint8Array;
}

export interface RecordSplitter {
  push(piece: Buffer): Generator<FileRecord>;
  /** No more pieces come. */
  finish(): Iterable<FileRecord>;
}

function isSpace(byte: number): boolean {
  return byte === SPACE || byte === NEWLINE || byte === RETURN || byte === TAB;
}

/** Where a message says that something is. */
export function placeOf(name: string, line: number): string {
  return `${name}, line ${line}`;
}

/** The bytes of one record, over as many pieces as it takes. */
class PendingBytes {
  private parts: Uint8Array[] = [];
  private length = 0;

  constructor(private readonly name: string) {}

  add(part: Uint8Array, line: number): void {
    if (part.length === 0) return;
    this.length += part.length;
    this.parts.push(part);
    if (this.length <= MAX_RECORD_BYTES) return;
    const place = placeOf(this.name, line);
    const message = `${place}: expected at most ${MAX_RECORD_BYTES} bytes a sample, more came. Shorten it, or leave it out.`;
    throw new StorageError('invalid', message);
  }

  take(): Uint8Array {
    const [first] = this.parts;
    const bytes = first !== undefined && this.parts.length === 1 ? first : Buffer.concat(this.parts);
    this.parts = [];
    this.length = 0;
    return bytes;
  }
}

/** One record a line; lines of nothing but spaces are none. */
export class LineSplitter implements RecordSplitter {
  private readonly pending: PendingBytes;
  private line = 1;
  private recordLine = 1;
  /** Whether an odd number of quotes came in the record. */
  private inQuotes = false;

  /** `isCsv`: a line end within quotes does not end the record. */
  constructor(
    name: string,
    private readonly isCsv: boolean,
  ) {
    this.pending = new PendingBytes(name);
  }

  *push(piece: Buffer): Generator<FileRecord> {
    let start = 0;
    for (let end = piece.indexOf(NEWLINE); end !== -1; end = piece.indexOf(NEWLINE, start)) {
      this.add(piece.subarray(start, end + 1));
      this.line++;
      if (!this.inQuotes) yield* this.finish();
      start = end + 1;
    }
    this.add(piece.subarray(start));
  }

  *finish(): Generator<FileRecord> {
    const bytes = this.pending.take();
    if (!bytes.every(isSpace)) yield { line: this.recordLine, bytes };
    this.recordLine = this.line;
  }

  private add(part: Buffer): void {
    this.pending.add(part, this.recordLine);
    if (!this.isCsv) return;
    for (let at = part.indexOf(QUOTE); at !== -1; at = part.indexOf(QUOTE, at + 1)) this.inQuotes = !this.inQuotes;
  }
}

/** Where the array splitter stands; `inside` is within an object. */
type ArrayPhase = 'before' | 'first' | 'inside' | 'between' | 'next' | 'after';

/** What may come outside of objects, by the phase, and where it leads. */
const OUTSIDE: Readonly<
  Record<
    Exclude<ArrayPhase, 'inside'>,
    { readonly next: Readonly<Partial<Record<number, ArrayPhase>>>; readonly expected: string }
  >
> = {
  before: {
    next: { [LIST_OPEN]: 'first' },
    expected: 'an array of objects (a file of one object a line is named .jsonl)',
  },
  first: { next: { [OBJECT_OPEN]: 'inside', [LIST_CLOSE]: 'after' }, expected: 'an object' },
  between: { next: { [COMMA]: 'next', [LIST_CLOSE]: 'after' }, expected: "',' and an object, or ']'" },
  next: { next: { [OBJECT_OPEN]: 'inside' }, expected: 'an object' },
  after: { next: {}, expected: 'nothing behind the array' },
};

/** The objects of one array, which is the whole file. */
export class ArraySplitter implements RecordSplitter {
  private readonly pending: PendingBytes;
  private phase: ArrayPhase = 'before';
  private line = 1;
  private recordLine = 1;
  private depth = 0;
  private inText = false;
  private escaped = false;

  constructor(private readonly name: string) {
    this.pending = new PendingBytes(name);
  }

  *push(piece: Buffer): Generator<FileRecord> {
    let start = 0;
    for (let index = 0; index < piece.length; index++) {
      const byte = piece[index] as number;
      if (byte === NEWLINE) this.line++;
      if (this.phase === 'inside') {
        if (!this.isLast(byte)) continue;
        this.pending.add(piece.subarray(start, index + 1), this.recordLine);
        this.phase = 'between';
        yield { line: this.recordLine, bytes: this.pending.take() };
      } else if (!isSpace(byte) && this.enter(byte) === 'inside') {
        start = index;
        this.recordLine = this.line;
      }
    }
    if (this.phase === 'inside') this.pending.add(piece.subarray(start), this.recordLine);
  }

  finish(): readonly FileRecord[] {
    if (this.phase === 'after') return [];
    const expected =
      this.phase === 'inside' ? `the end of the object of line ${this.recordLine}` : OUTSIDE[this.phase].expected;
    throw this.error(`expected ${expected}, the file ends`);
  }

  /** Takes the byte in that comes outside of objects. */
  private enter(byte: number): ArrayPhase {
    if (this.phase === 'inside') return this.phase;
    const { next, expected } = OUTSIDE[this.phase];
    const phase = next[byte];
    if (phase === undefined) throw this.error(`expected ${expected}, ${quoted(String.fromCharCode(byte))} came`);
    this.phase = phase;
    this.depth = 1;
    return phase;
  }

  /** Whether the object that it is within ends with this byte. */
  private isLast(byte: number): boolean {
    if (this.inText) {
      if (this.escaped) this.escaped = false;
      else if (byte === BACKSLASH) this.escaped = true;
      else if (byte === QUOTE) this.inText = false;
    } else if (byte === QUOTE) this.inText = true;
    else if (byte === OBJECT_OPEN || byte === LIST_OPEN) this.depth++;
    else if (byte === OBJECT_CLOSE || byte === LIST_CLOSE) this.depth--;
    return this.depth === 0;
  }

  private error(problem: string): StorageError {
    return new StorageError('invalid', `${placeOf(this.name, this.line)}: ${problem}.`);
  }
}
