/** Files of datasets as rows: the same whatever the pieces they come in, each with its line, never more than needed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DatasetFormat, readRows } from '../../src/storage/dataset-rows.ts';
import { MAX_RECORD_BYTES } from '../../src/storage/record-splitters.ts';
import { StorageError } from '../../src/storage/storage-error.ts';
import { seededNumbers } from '../support/seeded-numbers.ts';

const SEED = 6;
const NAME = 'mine/test';

type Numbered = readonly [line: number, values: unknown];

async function* inPieces(content: string | Uint8Array, size: () => number): AsyncGenerator<Buffer> {
  const bytes = Buffer.from(content);
  for (let start = 0; start < bytes.length; ) {
    const end = start + size();
    yield bytes.subarray(start, end);
    start = end;
  }
}

async function read(format: DatasetFormat, content: string | Uint8Array, size = () => 1000): Promise<Numbered[]> {
  const rows: Numbered[] = [];
  for await (const row of readRows(inPieces(content, size), format, NAME)) {
    rows.push([row.line, { ...row.values() }]);
  }
  return rows;
}

async function refuses(format: DatasetFormat, content: string | Uint8Array, message: RegExp): Promise<void> {
  await assert.rejects(read(format, content), (error) => {
    assert.ok(error instanceof StorageError, String(error));
    assert.equal(error.reason, 'invalid');
    assert.match(error.message, message);
    assert.ok(error.message.startsWith(NAME), error.message);
    assert.match(error.message, /expected/);
    return true;
  });
}

const CASES: readonly (readonly [string, DatasetFormat, string, readonly Numbered[]])[] = [
  [
    'JSON lines with blank ones, CRLF and no end of the last line',
    'jsonl',
    '{"a":"x\\ny é"}\r\n\r\n  \n{"a":"😀","b":{"c":[1]}}\n\n{"a":1}',
    [
      [1, { a: 'x\ny é' }],
      [4, { a: '😀', b: { c: [1] } }],
      [6, { a: 1 }],
    ],
  ],
  [
    'an array over many lines, with braces and quotes in its texts',
    'json',
    '\n[\n {"a": "}]\\"{\\\\",\n  "b": {"c": [{}, []]}}\n,{"a":"é😀"}, {\n}\n]\n\n',
    [
      [3, { a: '}]"{\\', b: { c: [{}, []] } }],
      [5, { a: 'é😀' }],
      [5, {}],
    ],
  ],
  [
    'an array on one line',
    'json',
    '[{"a":1},{"a":2}]',
    [
      [1, { a: 1 }],
      [1, { a: 2 }],
    ],
  ],
  ['an empty array', 'json', ' [ ] ', []],
  [
    'CSV with CRLF, also in quotes, and blank lines',
    'csv',
    'id,a\r\n\r\n1,"x\r\ny, ""é"""\r\n2,😀\r\n\r\n\r\n3,\r\n',
    [
      [3, { id: '1', a: 'x\r\ny, "é"' }],
      [5, { id: '2', a: '😀' }],
      [8, { id: '3', a: '' }],
    ],
  ],
  [
    'CSV with LF and no end of the last line',
    'csv',
    '__proto__,constructor\n"a\n\nb",c\nd,"e"',
    [
      [
        2,
        Object.fromEntries([
          ['__proto__', 'a\n\nb'],
          ['constructor', 'c'],
        ]),
      ],
      [
        5,
        Object.fromEntries([
          ['__proto__', 'd'],
          ['constructor', 'e'],
        ]),
      ],
    ],
  ],
  ['CSV of a header alone', 'csv', 'id,a\n', []],
  ['a file without a byte', 'csv', '', []],
  ['a file without a byte', 'jsonl', '', []],
];

for (const [name, format, content, expected] of CASES) {
  test(`${format}: ${name}, whatever the pieces and with a byte order mark`, async () => {
    const next = seededNumbers(SEED);
    const sizes = [() => 1000, () => 1, () => 2, () => 1 + Math.floor(next() * 9)];
    for (const size of sizes) {
      assert.deepEqual(await read(format, content, size), expected);
      // the mark itself comes whole: files are read in pieces that are longer
      assert.deepEqual(await read(format, `\uFEFF${content}`, () => 3 + size()), expected);
    }
  });
}

for (const [name, format, content, message] of [
  ['a line that is no JSON', 'jsonl', '{"a":1}\n\n{"a":\n', /, line 3: expected JSON, it does not parse/],
  ['a line that is no object', 'jsonl', '{"a":1}\n[1,2]', /, line 2: expected a JSON object, \[1, 2\] came/],
  ['an array in a file of lines', 'jsonl', '[\n{"a":1}\n]', /, line 1: expected JSON/],
  ['bytes that are no UTF-8', 'jsonl', Buffer.from([0x0a, 0x7b, 0xff, 0x7d]), /, line 2: expected UTF-8/],
  ['UTF-16', 'jsonl', Buffer.from('\uFEFF{"a":1}\n', 'utf16le'), /, line 1: expected UTF-8/],
  ['lines in a file of an array', 'json', '{"a":1}\n', /, line 1: expected an array of objects .*\.jsonl.*, "\{" came/],
  ['nothing where an array should be', 'json', '\n', /, line 2: expected an array of objects .*, the file ends/],
  ['a number in the array', 'json', '[{"a":1},\n3]', /, line 2: expected an object, "3" came/],
  ['a comma too many', 'json', '[{"a":1},\n]', /, line 2: expected an object, "\]" came/],
  ['a comma too few', 'json', '[{"a":1}\n{"a":2}]', /, line 2: expected ',' and an object, or '\]', "\{" came/],
  ['an array that does not end', 'json', '[{"a":1}\n', /, line 2: expected ',' and an object, or '\]', the file ends/],
  [
    'an object that does not end',
    'json',
    '[\n{"a":\n"1}]\n',
    /expected the end of the object of line 2, the file ends/,
  ],
  ['two arrays', 'json', '[{"a":1}]\n[]', /, line 2: expected nothing behind the array, "\[" came/],
  ['an object that is no JSON', 'json', '[{"a":1},\n\n{"a":]}]', /, line 3: expected JSON/],
  ['bytes that are no UTF-8', 'json', Buffer.from([0x5b, 0x7b, 0xff, 0x7d, 0x5d]), /, line 1: expected UTF-8/],
  ['a field too many', 'csv', 'a,b\r\n"1\r\n",2\r\n\r\n1,2,3\r\n', /, line 5: expected 2 fields, as many as/],
  ['a field too few', 'csv', 'a,b\n1\n', /, line 2: expected 2 fields, as many as/],
  ['a quote within a field', 'csv', 'a,b\n1,2\n1,x"y\n', /, line 3: expected fields of CSV/],
  ['text behind a quote', 'csv', 'a,b\n1,"x"y\n', /, line 2: expected fields of CSV/],
  ['a quote that does not end', 'csv', 'a,b\n1,2\n3,"x\ny\n\n', /, line 3: expected fields of CSV/],
  ['a column twice', 'csv', 'a,b,a\n1,2,3\n', /, line 1: expected different columns, "a" comes twice/],
  ['bytes that are no UTF-8', 'csv', Buffer.from('a,b\n1,2\n3,\xff\n', 'latin1'), /, line 3: expected UTF-8/],
] as const) {
  test(`${format}: ${name}: refused by line`, () => refuses(format, content, message));
}

test('a record longer than may be is refused by its first line, before it is read to its end', async () => {
  const long = 'x'.repeat(MAX_RECORD_BYTES);
  const expected = /, line 2: expected at most 1048576 bytes a sample, more came/;
  await refuses('jsonl', `{"a":1}\n{"a":"${long}"}\n{"a":1}`, expected);
  await refuses('json', `[{"a":1},\n{"a":"${long}"}]`, expected);
  await refuses('csv', `a\n"${long}x"\n`, expected);
});

for (const format of ['jsonl', 'json', 'csv'] as const) {
  test(`${format}: rows come while the file is read, and no more is read than they take`, async () => {
    const text = 'x'.repeat(1000);
    const { head, line } = {
      jsonl: { head: '', line: `{"a":"${text}"}\n` },
      json: { head: '[', line: `{"a":"${text}"},\n` },
      csv: { head: 'a\n', line: `${text}\n` },
    }[format];
    let pulled = 0;
    let ended = false;
    const endless = async function* (): AsyncGenerator<Buffer> {
      try {
        yield Buffer.from(head);
        for (;;) {
          pulled++;
          yield Buffer.from(line);
        }
      } finally {
        ended = true;
      }
    };
    let rows = 0;
    for await (const row of readRows(endless(), format, NAME)) {
      assert.deepEqual({ ...row.values() }, { a: text });
      rows++;
      assert.ok(pulled <= rows + 1, `${pulled} pieces for ${rows} rows`);
      if (rows === 3000) break;
    }
    assert.ok(ended, 'the source is let go with the rows');
  });
}
