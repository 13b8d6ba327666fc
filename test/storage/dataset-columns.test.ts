/** What dataset.json may say, and what a row must hold. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type DatasetSample,
  defaultManifest,
  findColumns,
  parseManifest,
  toSample,
} from '../../src/storage/dataset-columns.ts';
import { StorageError } from '../../src/storage/storage-error.ts';

const PLACE = 'mine/test.jsonl, line 7';
const { columns: usual } = defaultManifest;

function refuses(work: () => unknown, message: RegExp): void {
  assert.throws(work, (error) => {
    assert.ok(error instanceof StorageError, String(error));
    assert.match(error.message, message);
    assert.match(error.message, /expected/);
    assert.ok(error.message.length < 1200);
    return true;
  });
}

function sampleOf(row: Readonly<Record<string, unknown>>, first = row, wanted = usual): DatasetSample {
  return toSample(row, 3, { wanted, columns: findColumns(wanted, first, PLACE), place: PLACE });
}

test('a manifest says what differs from DialogSum and SAMSum', () => {
  assert.deepEqual(parseManifest({}, 'x'), defaultManifest);
  assert.deepEqual(parseManifest({ name: 'A', license: null, id: 'n', text: 't', references: ['r'] }, 'x'), {
    name: 'A',
    license: null,
    columns: { id: 'n', text: 't', references: ['r'] },
  });
  assert.deepEqual(parseManifest({ license: 'L' }, 'x'), { ...defaultManifest, license: 'L' });
});

for (const [json, message] of [
  [{ licence: 'MIT' }, /x: expected only the keys name, license, id, text, references, "licence" came/],
  [{ name: '' }, /name to be a text that is not empty, "" came/],
  [{ license: 3 }, /license to be a text that is not empty, 3 came/],
  [{ id: ['a'] }, /id to be a text/],
  [{ references: 'summary' }, /references to be a list of names of columns, "summary" came/],
  [{ references: [] }, /references to be a list of names of columns, \[\] came/],
  [{ references: ['a', 1] }, /references to be a list/],
  [{ references: Array.from({ length: 101 }, (_, index) => `r${index}`) }, /at most 100 references, 101 came/],
  [{ references: ['a', 'a'] }, /a column to be named once, "a" came/],
  [{ text: 'summary' }, /a column to be named once, "summary" came/],
] as const) {
  test(`a manifest of ${JSON.stringify(json).slice(0, 40)} is refused`, () => {
    refuses(() => parseManifest(json, 'x'), message);
  });
}

test('the columns of DialogSum and SAMSum are found, with the references that are there', () => {
  const text = 'A: Hi.';
  assert.deepEqual(sampleOf({ fname: 'f', dialogue: text, summary: 's', topic: 't' }), {
    index: 3,
    id: 'f',
    text,
    references: ['s'],
  });
  assert.deepEqual(sampleOf({ fname: 'f', id: 'i', dialogue: text, summary3: '3', summary1: '1' }), {
    index: 3,
    id: 'f',
    text,
    references: ['1', '3'],
  });
  assert.equal(sampleOf({ id: 13_818_513, summary: 's', dialogue: text }).id, '13818513');
  assert.equal(sampleOf({ dialogue: text, summary: 's' }).id, '3');
});

test('other columns are those that the manifest names', () => {
  const { columns } = parseManifest({ id: 'ID', text: 'note', references: ['b', 'a', 'c'] }, 'x');
  const row = { ID: '7', id: 'no', note: 'N', a: 'A', b: 'B' };
  assert.deepEqual(sampleOf(row, row, columns), { index: 3, id: '7', text: 'N', references: ['B', 'A'] });
});

const good = { fname: 'f', dialogue: 'A: Hi.', summary1: 'one', summary2: 'two' };
const hidden = Object.create({ dialogue: 'A: Hi.' }) as Record<string, unknown>;

for (const [name, row, message] of [
  ['without the text', { summary: 's' }, /a column "dialogue" with the text, the columns "summary" came\. Name/],
  ['without a reference', { dialogue: 'd' }, /one of the columns "summary", "summary1", .* with a summary/],
  ['without anything', {}, /the columns none came/],
  ['that inherits its text', hidden, /a column "dialogue"/],
] as const) {
  test(`a first row ${name} is refused by line`, () => {
    refuses(() => sampleOf(row), new RegExp(`^${PLACE}: .*${message.source}`));
  });
}

test('a column that the manifest names for ids must be there', () => {
  const { columns } = parseManifest({ id: 'key' }, 'x');
  refuses(() => sampleOf(good, good, columns), /a column "key" with the id/);
});

for (const [name, change, message] of [
  ['without a text', { dialogue: undefined }, /column "dialogue": expected a text, nothing came/],
  ['of an empty text', { dialogue: ' \n\t ' }, /column "dialogue": expected a text, it is empty/],
  ['of turns in a list', { dialogue: ['A: Hi.'] }, /column "dialogue": expected a text, \["A: Hi\."\] came/],
  ['without a reference that others have', { summary2: undefined }, /column "summary2": expected a text, nothing came/],
  ['of an empty reference', { summary1: '' }, /column "summary1": expected a text, it is empty/],
  ['of null for a reference', { summary1: null }, /column "summary1": expected a text, null came/],
  ['with a reference more', { summary3: 'x' }, /column "summary3": .* \("summary1", "summary2"\), one more came/],
  ['of NUL in a text', { dialogue: 'a\0b' }, /column "dialogue": expected characters of Unicode/],
  ['of half a pair', { summary1: 'a\ud83d' }, /column "summary1": expected characters of Unicode/],
  ['without an id', { fname: undefined }, /column "fname": expected a text, nothing came/],
  ['of a fraction for an id', { fname: 1.5 }, /column "fname": expected a text, 1.5 came/],
  ['of a long id', { fname: 'x'.repeat(257) }, /column "fname": expected an id of at most 256 characters, 257 came/],
] as const) {
  test(`a row ${name} is refused by line and column`, () => {
    const row: Record<string, unknown> = { ...good, ...change };
    for (const [key, value] of Object.entries(row)) if (value === undefined) delete row[key];
    refuses(() => sampleOf(row, good), new RegExp(`^${PLACE}, ${message.source}`));
  });
}
