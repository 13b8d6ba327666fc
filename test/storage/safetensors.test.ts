import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { uniform } from '../../src/runtime/decoding/random.ts';
import { encodeSafetensors, SafetensorsFile, type TensorToWrite } from '../../src/storage/safetensors.ts';
import { StorageError } from '../../src/storage/storage-error.ts';
import { repositoryPath } from '../support/oracle.ts';
import { temporaryFolder } from '../support/tiny-model.ts';

interface Entry {
  readonly dtype?: unknown;
  readonly shape?: unknown;
  readonly data_offsets?: unknown;
}

/** A file with this header and so many bytes of data; `claimedBytes` is what it says of its header's length. */
function fileOf(header: string | Buffer, dataBytes: number, claimedBytes?: number | bigint): Buffer {
  const text = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(claimedBytes ?? text.length));
  return Buffer.concat([length, text, Buffer.alloc(dataBytes)]);
}

function headerOf(entries: Readonly<Record<string, Entry | unknown>>, dataBytes: number): Buffer {
  return fileOf(JSON.stringify(entries), dataBytes);
}

const vector = (begin: number, end: number): Entry => ({
  dtype: 'F32',
  shape: [(end - begin) / 4],
  data_offsets: [begin, end],
});

async function write(t: TestContext, bytes: Uint8Array): Promise<string> {
  const path = join(await temporaryFolder(t), 'model.safetensors');
  await writeFile(path, bytes);
  return path;
}

/** Opens and reads everything, as loading a model does. */
async function readAll(path: string): Promise<Map<string, TensorToWrite>> {
  const file = await SafetensorsFile.open(path);
  try {
    const tensors = new Map<string, TensorToWrite>();
    for (const [name, { shape }] of file.tensors) tensors.set(name, { shape, data: await file.read(name) });
    return tensors;
  } finally {
    await file.close();
  }
}

async function assertRefused(path: string, message: RegExp): Promise<void> {
  await assert.rejects(readAll(path), (error) => {
    assert.ok(error instanceof StorageError, `${error}`);
    assert.equal(error.reason, 'invalid');
    assert.match(error.message, message);
    assert.ok(error.message.length < 500, `a message of ${error.message.length} characters`);
    return true;
  });
}

test('a file written again after reading has the bytes of the official writer', async () => {
  for (const name of ['t5-relu-tied', 't5-gated-untied']) {
    const path = repositoryPath(`test/fixtures/${name}/model.safetensors`);
    assert.ok(Buffer.from(encodeSafetensors(await readAll(path))).equals(await readFile(path)), name);
  }
});

test('what is written comes back, whatever the names, types and shapes', async (t) => {
  const tensors = new Map<string, TensorToWrite>([
    ['narrow', { shape: [3], data: Float32Array.of(1, -2.5, 65_504), dtype: 'F16' }],
    ['matrix', { shape: [2, 2], data: Float32Array.of(1e-30, 2, 3, 4) }],
    ['Straße 路', { shape: [], data: Float32Array.of(7) }],
    ['none', { shape: [0, 5], data: new Float32Array(0) }],
    ['brain', { shape: [1], data: Float32Array.of(2 ** 100), dtype: 'BF16' }],
    ['__proto__', { shape: [1], data: Float32Array.of(5) }],
  ]);
  const bytes = encodeSafetensors(tensors);
  assert.equal(Buffer.from(bytes).readBigUInt64LE() % 8n, 0n);
  const back = await readAll(await write(t, bytes));
  assert.deepEqual([...back.keys()].sort(), [...tensors.keys()].sort());
  for (const [name, { shape, data }] of tensors) assert.deepEqual(back.get(name), { shape, data });
});

test('the order in which tensors are given does not change the bytes', () => {
  const one: [string, TensorToWrite] = ['one', { shape: [1], data: Float32Array.of(1) }];
  const two: [string, TensorToWrite] = ['two', { shape: [2], data: Float32Array.of(2, 3), dtype: 'F16' }];
  assert.deepEqual(encodeSafetensors(new Map([one, two])), encodeSafetensors(new Map([two, one])));
});

const HOSTILE_FILES: readonly (readonly [string, Buffer, RegExp])[] = [
  ['an empty file', Buffer.alloc(0), /only 0 bytes/],
  ['a file that ends within the header length', Buffer.alloc(7), /only 7 bytes/],
  ['a file that ends within the header', fileOf('{"a":', 0, 100), /claims 100: the file is truncated/],
  ['a header that claims 2^64 - 1 bytes', fileOf('{}', 0, 2n ** 64n - 1n), /claims 18446744073709551615/],
  ['a header that claims a terabyte', fileOf('{}', 0, 2 ** 40), /at most 2 bytes, it claims 1099511627776/],
  ['a pickle', Buffer.from('\x80\x02}q\x00X\x05\x00\x00\x00shared', 'latin1'), /no safetensors file/],
  ['a header that is no JSON', fileOf('{"a": tru}', 0), /expected JSON/],
  ['a header that is a list', fileOf('[]', 0), /begins with {/],
  ['an empty header', fileOf('', 0), /begins with {/],
  ['a header that is no UTF-8', fileOf(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), 0), /UTF-8/],
  ['a header that nests a million lists', fileOf(`{"a":${'['.repeat(1e6)}${']'.repeat(1e6)}}`, 0), /an object|a list/],
  [
    'a name that comes twice',
    fileOf(
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\\u0061":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
      1,
    ),
    /one comes twice/,
  ],
  ['metadata that holds numbers', headerOf({ __metadata__: { step: 3 } }, 0), /object of texts/],
  ['an entry that is a list', headerOf({ a: [] }, 0), /"a": expected an object/],
  ['an entry that is null', headerOf({ a: null }, 0), /"a": expected an object/],
  ['an unknown dtype', headerOf({ a: { ...vector(0, 4), dtype: 'F31' } }, 4), /known dtype, "F31" came/],
  ['a dtype that every object has', headerOf({ a: { ...vector(0, 4), dtype: 'constructor' } }, 4), /known dtype/],
  ['a dtype of a million letters', headerOf({ a: { ...vector(0, 4), dtype: 'F'.repeat(1e6) } }, 4), /known dtype/],
  ['a dtype that is no number type to compute with', headerOf({ a: { ...vector(0, 4), dtype: 'I32' } }, 4), /I32 came/],
  ['a negative dimension', headerOf({ a: { ...vector(0, 4), shape: [-1, -1] } }, 4), /whole numbers/],
  ['a broken dimension', headerOf({ a: { ...vector(0, 4), shape: [0.5, 2] } }, 4), /whole numbers/],
  ['a dimension that is a text', headerOf({ a: { ...vector(0, 4), shape: ['1'] } }, 4), /whole numbers/],
  ['a shape with nine dimensions', headerOf({ a: { ...vector(0, 4), shape: Array(9).fill(1) } }, 4), /at most 8/],
  [
    'a shape larger than its range',
    headerOf({ a: { ...vector(0, 4), shape: [2] } }, 4),
    /expected 8 bytes for shape \[2\], 4/,
  ],
  ['a shape smaller than its range', headerOf({ a: { ...vector(0, 8), shape: [1] } }, 8), /expected 4 bytes/],
  [
    'a shape whose product overflows',
    headerOf({ a: { ...vector(0, 0), shape: Array(8).fill(2 ** 53 - 1) } }, 0),
    /bytes for shape/,
  ],
  [
    'a shape whose product wraps to 0 in 64 bits',
    headerOf({ a: { ...vector(0, 0), shape: [2 ** 32, 2 ** 32] } }, 0),
    /bytes for shape/,
  ],
  ['offsets beyond the data', headerOf({ a: vector(0, 8) }, 4), /within the 4 bytes of data, \[0, 8\] came/],
  [
    'offsets that begin behind their end',
    headerOf({ a: { ...vector(0, 4), data_offsets: [4, 0] } }, 4),
    /\[4, 0\] came/,
  ],
  ['negative offsets', headerOf({ a: { ...vector(0, 4), data_offsets: [-4, 0] } }, 4), /two data_offsets, \[-4, 0\]/],
  [
    'offsets beyond exact numbers',
    fileOf('{"a":{"dtype":"U8","shape":[0],"data_offsets":[1e300,1e300]}}', 0),
    /two data_offsets/,
  ],
  ['one offset', headerOf({ a: { ...vector(0, 4), data_offsets: [0] } }, 4), /two data_offsets/],
  ['tensors that overlap', headerOf({ a: vector(0, 8), b: vector(4, 12) }, 12), /"b" overlaps another tensor/],
  ['tensors that share their bytes', headerOf({ a: vector(0, 8), b: vector(0, 8) }, 8), /overlaps another tensor/],
  ['a hole between tensors', headerOf({ a: vector(0, 4), b: vector(8, 12) }, 12), /"b" leaves a hole/],
  ['data that no tensor owns', headerOf({ a: vector(0, 4) }, 8), /expected 4 bytes of data, 8 came/],
  ['data without any tensor', headerOf({}, 8), /expected 0 bytes of data, 8 came/],
];

for (const [what, bytes, message] of HOSTILE_FILES) {
  test(`refused: ${what}`, async (t) => assertRefused(await write(t, bytes), message));
}

for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
  for (const dtype of ['F32', 'F16', 'BF16'] as const) {
    test(`refused: ${value} among ${dtype} weights`, async (t) => {
      const data = Float32Array.of(1, 2, value, 4);
      const path = await write(t, encodeSafetensors(new Map([['a', { shape: [4], data, dtype }]])));
      await assertRefused(path, new RegExp(`tensor "a": expected finite values, ${value} stands at 2`));
    });
  }
}

test('refused: a header above the bound, in a file that is long enough for it', async (t) => {
  const path = await write(t, fileOf('{}', 0, 100_000_001));
  const handle = await open(path, 'r+');
  // sparse: the length costs no disk
  await handle.truncate(200_000_000);
  await handle.close();
  await assertRefused(path, /at most 100000000 bytes, it claims 100000001/);
});

test('refused: a folder in place of the file', async (t) => {
  const path = join(await temporaryFolder(t), 'model.safetensors');
  await mkdir(path);
  await assertRefused(path, /regular file/);
});

test('refused: a pipe in place of the file, without waiting for a writer', {
  skip: process.platform === 'win32',
}, async (t) => {
  const path = join(await temporaryFolder(t), 'model.safetensors');
  execFileSync('mkfifo', [path]);
  await assertRefused(path, /regular file/);
});

test('a file that is not there is missing, not broken', async (t) => {
  const path = join(await temporaryFolder(t), 'model.safetensors');
  await assert.rejects(SafetensorsFile.open(path), { name: 'StorageError', reason: 'missing' });
});

test('refused: a file that was cut after it was opened', async (t) => {
  const path = await write(t, encodeSafetensors(new Map([['a', { shape: [4], data: new Float32Array(4) }]])));
  const file = await SafetensorsFile.open(path);
  t.after(() => file.close());
  const handle = await open(path, 'r+');
  await handle.truncate((await handle.stat()).size - 6);
  await handle.close();
  await assert.rejects(file.read('a'), { name: 'StorageError', message: /ended 6 bytes early/ });
});

test('a file with flipped, cut or inserted bytes gives whole finite tensors or a StorageError', async (t) => {
  const seed = 4;
  t.diagnostic(`seed ${seed}`);
  const tensors = new Map<string, TensorToWrite>([
    ['a.weight', { shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) }],
    ['b.weight', { shape: [4], data: Float32Array.of(1, -1, 0.5, 2), dtype: 'F16' }],
    ['c.weight', { shape: [2], data: Float32Array.of(1, 3), dtype: 'BF16' }],
  ]);
  const valid = Buffer.from(encodeSafetensors(tensors));
  const path = await write(t, valid);
  const outcomes = { read: 0, refused: 0 };
  for (let round = 0; round < 1000; round++) {
    await writeFile(
      path,
      mutate(valid, (draw, below) => Math.floor(uniform(seed, round, draw) * below)),
    );
    try {
      for (const { shape, data } of (await readAll(path)).values()) {
        assert.equal(
          data.length,
          shape.reduce((product, length) => product * length, 1),
        );
        assert.ok(data.every(Number.isFinite));
      }
      outcomes.read++;
    } catch (error) {
      assert.ok(error instanceof StorageError, `round ${round}: ${error}`);
      outcomes.refused++;
    }
  }
  // a change within the data mostly leaves a valid file, one within the header hardly ever
  assert.ok(outcomes.read > 100 && outcomes.refused > 400, JSON.stringify(outcomes));
  t.diagnostic(JSON.stringify(outcomes));
});

/** One or two changes of a valid file: cut, insert, another header length, another digit in the header, any byte. */
function mutate(valid: Buffer, pick: (draw: number, below: number) => number): Buffer {
  let bytes = Buffer.from(valid);
  const digits = [...bytes.keys()].filter((place) => place >= 8 && /\d/.test(String.fromCharCode(valid[place] ?? 0)));
  const changes = 1 + pick(0, 2);
  for (let change = 0; change < changes; change++) {
    const draw = 1 + change * 3;
    const place = pick(draw, bytes.length);
    const value = pick(draw + 1, 256);
    const kind = pick(draw + 2, 8);
    const digit = digits[place % digits.length] ?? 0;
    // a write behind the end of a buffer is ignored
    if (kind === 0) bytes = bytes.subarray(0, place);
    else if (kind === 1) bytes = Buffer.concat([bytes.subarray(0, place), Buffer.of(value), bytes.subarray(place)]);
    else if (kind === 2) bytes[place % 8] = value;
    else if (kind === 3) bytes[digit] = 48 + (value % 10);
    else if (kind < 6) bytes[place] = value;
    else bytes[bytes.length - 1 - (place % 40)] = value;
  }
  return bytes;
}
