/**
 * The rows of a dataset's file in any of the three formats, as a stream. CSV is parsed record by record: csv-parse's own
 * stream counts "\r\n" within quotes as two lines, and loses the rows before an error.
 */
import { CsvError, parse } from 'csv-parse/sync';
import { decodeText, parseJsonObject } from './bounded-file.ts';
import { ArraySplitter, type FileRecord, LineSplitter, placeOf, type RecordSplitter } from './record-splitters.ts';
import { quoted, StorageError } from './storage-error.ts';

/** One object a line; a first record of names, then values; one array of objects. */
export type DatasetFormat = 'jsonl' | 'csv' | 'json';

export interface DatasetRow {
  /** Where it begins; the first line is 1. */
  readonly line: number;
  /** Parses it: rows that are passed over never are. */
  values(): Readonly<Record<string, unknown>>;
}

const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf]);

async function* withoutMark(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let isFirst = true;
  for await (const piece of pieces) {
    const isMarked = isFirst && piece.subarray(0, BYTE_ORDER_MARK.length).equals(BYTE_ORDER_MARK);
    yield isMarked ? piece.subarray(BYTE_ORDER_MARK.length) : piece;
    isFirst = false;
  }
}

async function* readRecords(pieces: AsyncIterable<Buffer>, splitter: RecordSplitter): AsyncGenerator<FileRecord> {
  for await (const piece of withoutMark(pieces)) yield* splitter.push(piece);
  yield* splitter.finish();
}

async function* readJson(records: AsyncIterable<FileRecord>, name: string): AsyncGenerator<DatasetRow> {
  for await (const { line, bytes } of records) {
    const place = placeOf(name, line);
    yield { line, values: () => parseJsonObject(decodeText(bytes, place), place) };
  }
}

/** Returns the fields of one record. */
function parseFields(bytes: Uint8Array, place: string): readonly string[] {
  try {
    const [fields = []] = parse(decodeText(bytes, place), { record_delimiter: ['\r\n', '\n'] });
    return fields;
  } catch (cause) {
    if (!(cause instanceof CsvError)) throw cause;
    const expected = 'expected fields of CSV, in quotes as a whole or not at all, and quotes within them doubled';
    throw new StorageError('invalid', `${place}: ${expected}; it does not parse (${cause.code}).`, { cause });
  }
}

function parseHeader(bytes: Uint8Array, place: string): readonly string[] {
  const columns = parseFields(bytes, place);
  const twice = columns.find((column, index) => columns.indexOf(column) !== index);
  if (twice === undefined) return columns;
  throw new StorageError('invalid', `${place}: expected different columns, ${quoted(twice)} comes twice.`);
}

function parseCsv(bytes: Uint8Array, columns: readonly string[], place: string): DatasetRow['values'] {
  return () => {
    const fields = parseFields(bytes, place);
    if (fields.length === columns.length) {
      return Object.fromEntries(columns.map((column, index) => [column, fields[index]]));
    }
    const message = `${place}: expected ${columns.length} fields, as many as there are columns, ${fields.length} came.`;
    throw new StorageError('invalid', message);
  };
}

async function* readCsv(records: AsyncIterable<FileRecord>, name: string): AsyncGenerator<DatasetRow> {
  let columns: readonly string[] | undefined;
  for await (const { line, bytes } of records) {
    const place = placeOf(name, line);
    if (columns === undefined) columns = parseHeader(bytes, place);
    else yield { line, values: parseCsv(bytes, columns, place) };
  }
}

/** Yields the rows of a file; `name` is what messages call it. Throws StorageError where it is not of the format. */
export function readRows(
  pieces: AsyncIterable<Buffer>,
  format: DatasetFormat,
  name: string,
): AsyncGenerator<DatasetRow> {
  switch (format) {
    case 'jsonl':
      return readJson(readRecords(pieces, new LineSplitter(name, false)), name);
    case 'csv':
      return readCsv(readRecords(pieces, new LineSplitter(name, true)), name);
    case 'json':
      return readJson(readRecords(pieces, new ArraySplitter(name)), name);
    default:
      return format satisfies never;
  }
}
