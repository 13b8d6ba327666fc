/** Which columns of a dataset hold ids, texts and references, and the sample that a row makes. */
import { quoted, StorageError } from './storage-error.ts';

/** As dataset.json has it, or as DialogSum and SAMSum do. */
export interface DatasetManifest {
  /** Null where it is not told. */
  readonly name: string | null;
  readonly license: string | null;
  readonly columns: DatasetColumns;
}

export interface DatasetColumns {
  /** Null: `fname` or `id`, whichever a split has, else a sample's index is its id. */
  readonly id: string | null;
  readonly text: string;
  /** A split uses those that it has. */
  readonly references: readonly string[];
}

/** The columns that one split has. */
export interface SplitColumns {
  /** Null: a sample's index is its id. */
  readonly id: string | null;
  readonly text: string;
  readonly references: readonly string[];
}

export interface DatasetSample {
  /** Its place in the split, from 0. */
  readonly index: number;
  readonly id: string;
  readonly text: string;
  /** One of each reference column. */
  readonly references: readonly string[];
}

type Values = Readonly<Record<string, unknown>>;

const MANIFEST_KEYS: readonly string[] = ['name', 'license', 'id', 'text', 'references'];
const ID_COLUMNS = ['fname', 'id'];
const MAX_REFERENCES = 100;
const MAX_ID_LENGTH = 256;
/** Half of a surrogate pair, which no encoding of Unicode can write. */
const LONE_SURROGATE = /\p{Surrogate}/u;
/** How many columns a message lists. */
const LISTED_COLUMNS = 20;

export const defaultManifest: DatasetManifest = {
  name: null,
  license: null,
  columns: { id: null, text: 'dialogue', references: ['summary', 'summary1', 'summary2', 'summary3'] },
};

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

/** Reads what dataset.json says; `place` is what messages call it. */
export function parseManifest(json: Values, place: string): DatasetManifest {
  const refuse = (expected: string, came: unknown): never => {
    throw new StorageError('invalid', `${place}: expected ${expected}, ${quoted(came)} came.`);
  };
  const unknown = Object.keys(json).find((key) => !MANIFEST_KEYS.includes(key));
  if (unknown !== undefined) refuse(`only the keys ${MANIFEST_KEYS.join(', ')}`, unknown);
  const text = (key: string): string | null => {
    const value = json[key];
    if (value === undefined || value === null) return null;
    return isText(value) ? value : refuse(`${key} to be a text that is not empty`, value);
  };
  const { columns } = defaultManifest;
  const references = json.references ?? columns.references;
  if (!Array.isArray(references) || !references.every(isText) || references.length === 0) {
    return refuse('references to be a list of names of columns', references);
  }
  if (references.length > MAX_REFERENCES) refuse(`at most ${MAX_REFERENCES} references`, references.length);
  const id = text('id');
  const named = [...(id === null ? [] : [id]), text('text') ?? columns.text, ...references];
  const twice = named.find((column, index) => named.indexOf(column) !== index);
  if (twice !== undefined) refuse('a column to be named once', twice);
  return {
    name: text('name'),
    license: text('license'),
    columns: { id, text: text('text') ?? columns.text, references },
  };
}

function listed(columns: readonly string[]): string {
  const names = columns.slice(0, LISTED_COLUMNS).map(quoted).join(', ');
  return columns.length > LISTED_COLUMNS ? `${names}, …` : names || 'none';
}

/** Finds the columns of a split in its first row. */
export function findColumns(wanted: DatasetColumns, first: Values, place: string): SplitColumns {
  const require = (found: boolean, what: string): void => {
    if (found) return;
    const remedy = 'Name the columns in dataset.json (id, text, references), or rename them';
    const message = `${place}: expected ${what}, the columns ${listed(Object.keys(first))} came. ${remedy}.`;
    throw new StorageError('invalid', message);
  };
  const has = (column: string): boolean => Object.hasOwn(first, column);
  require(has(wanted.text), `a column ${quoted(wanted.text)} with the text`);
  if (wanted.id !== null) require(has(wanted.id), `a column ${quoted(wanted.id)} with the id`);
  const references = wanted.references.filter(has);
  require(references.length > 0, `one of the columns ${listed(wanted.references)} with a summary`);
  return { id: wanted.id ?? ID_COLUMNS.find(has) ?? null, text: wanted.text, references };
}

function refuseValue(place: string, column: string, problem: string): never {
  throw new StorageError('invalid', `${place}, column ${quoted(column)}: ${problem}.`);
}

function readText(values: Values, column: string, place: string): string {
  const value = Object.hasOwn(values, column) ? values[column] : undefined;
  if (typeof value !== 'string') return refuseValue(place, column, `expected a text, ${quoted(value)} came`);
  if (!/\S/.test(value)) {
    return refuseValue(place, column, 'expected a text, it is empty. Write one, or leave the sample out');
  }
  if (value.includes('\0') || LONE_SURROGATE.test(value)) {
    const problem = 'expected characters of Unicode, a NUL or half of a pair came, which no database takes';
    return refuseValue(place, column, problem);
  }
  return value;
}

function readId(values: Values, column: string, place: string): string {
  const value = values[column];
  const id = Number.isSafeInteger(value) ? String(value) : readText(values, column, place);
  if (id.length <= MAX_ID_LENGTH) return id;
  return refuseValue(place, column, `expected an id of at most ${MAX_ID_LENGTH} characters, ${id.length} came`);
}

export interface SampleContext {
  readonly wanted: DatasetColumns;
  readonly columns: SplitColumns;
  /** What messages call the row. */
  readonly place: string;
}

/** Returns the sample of a row, which must have what the first row has. */
export function toSample(values: Values, index: number, { wanted, columns, place }: SampleContext): DatasetSample {
  const { id, text, references } = columns;
  const surplus = wanted.references.find((column) => !references.includes(column) && Object.hasOwn(values, column));
  if (surplus !== undefined) {
    refuseValue(place, surplus, `expected the references of the first sample (${listed(references)}), one more came`);
  }
  return {
    index,
    id: id === null ? String(index) : readId(values, id, place),
    text: readText(values, text, place),
    references: references.map((column) => readText(values, column, place)),
  };
}
