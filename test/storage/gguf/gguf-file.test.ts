/** Headers: what good ones say, and how hostile ones are refused. */
import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { type TestContext, test } from 'node:test';
import { GgufFile } from '../../../src/storage/gguf/gguf-file.ts';
import {
  encodeGguf,
  float,
  floats,
  type GgufParts,
  integers,
  text,
  uint32,
  uint64,
  VALUE_TYPE,
  writeGguf,
} from '../../support/gguf-bytes.ts';

async function openFile(t: TestContext, parts: GgufParts): Promise<GgufFile> {
  const file = await GgufFile.open(await writeGguf(t, encodeGguf(parts)));
  t.after(() => file.close());
  return file;
}

async function assertRefused(path: string, message: RegExp): Promise<void> {
  // a file that opens when it must not is closed, so that the test fails and does not hang
  const opened = GgufFile.open(path).then((file) => file.close());
  await assert.rejects(opened, (error: Error) => {
    assert.equal(error.name, 'StorageError', `${error.stack}`);
    assert.match(error.message, message);
    assert.match(error.message, /^model\.gguf: .*expected/);
    assert.ok(error.message.length < 400, error.message);
    return true;
  });
}

for (const version of [2, 3]) {
  test(`version ${version}: metadata and tensors come as they were written`, async (t) => {
    const data = floats([1, 2, 3, 4, 5, 6]);
    const file = await openFile(t, {
      version,
      metadata: [
        ['text', 'Zoë'],
        ['flag', true],
        ['number', 7],
        ['real', float(0.5)],
        ['large', { type: VALUE_TYPE.uint64, bytes: uint64(2n ** 63n) }],
        ['small', { type: VALUE_TYPE.uint64, bytes: uint64(12) }],
        ['texts', ['a', '', 'ü']],
        ['integers', integers([3, -1])],
      ],
      tensors: [
        ['b', { shape: [3, 2], data }],
        ['a', { shape: [6], data }],
      ],
    });
    assert.deepEqual(Object.fromEntries(file.metadata), {
      text: 'Zoë',
      flag: true,
      number: 7,
      real: 0.5,
      large: 2n ** 63n,
      small: 12,
      texts: ['a', '', 'ü'],
      integers: Int32Array.of(3, -1),
    });
    assert.deepEqual(
      [...file.tensors].map(([name, { shape, dtype, byteLength }]) => [name, shape, dtype, byteLength]),
      [
        ['b', [3, 2], 'F32', 24],
        ['a', [6], 'F32', 24],
      ],
    );
    assert.deepEqual(await file.read('b'), Float32Array.of(1, 2, 3, 4, 5, 6));
    await assert.rejects(file.read('c'), { name: 'StorageError', message: /tensor "c": expected it, it is missing/ });
  });
}

test('another alignment than 32, and a file that ends with its last tensor', async (t) => {
  const tensors = ['a', 'b'].map((name) => [name, { shape: [1], data: floats([3]) }] as const);
  const aligned = await openFile(t, { metadata: [['general.alignment', 128]], tensors, alignment: 128 });
  assert.equal((aligned.tensors.get('b')?.offset ?? 0) - (aligned.tensors.get('a')?.offset ?? 0), 128);
  const unpadded = await openFile(t, { tensors, padded: false });
  assert.deepEqual(await unpadded.read('b'), Float32Array.of(3));
});

test('a vocabulary without tensors is a file too', async (t) => {
  assert.equal((await openFile(t, { metadata: [['tokens', ['a']]] })).tensors.size, 0);
});

const vector = { shape: [2], data: floats([1, 2]) };
type Tensor = Required<GgufParts>['tensors'][number][1];
/** A file of one tensor, unless more are given. */
const tensor = (change: Partial<Tensor>, ...others: Required<GgufParts>['tensors']): GgufParts => ({
  tensors: [['a', { ...vector, ...change }], ...others],
});
const array = (type: number, count: number | bigint): GgufParts => ({
  metadata: [['k', { type: VALUE_TYPE.array, bytes: Buffer.concat([uint32(type), uint64(count)]) }]],
});
/** A header that claims one metadata entry, and the bytes that stand for it. */
const entry = (...bytes: readonly Uint8Array[]): Buffer =>
  Buffer.concat([Buffer.from('GGUF'), uint32(3), uint64(0), uint64(1), ...bytes, Buffer.alloc(64)]);
const HUGE = 2n ** 63n;
const INVALID_TEXT = Buffer.of(0xc3, 0x28);

const HOSTILE: readonly (readonly [string, GgufParts | Buffer, RegExp])[] = [
  ['an empty file', Buffer.alloc(0), /expected 4 more bytes of header at byte 0, 0 are there/],
  ['a file of another kind', Buffer.from('PK\u0003\u0004 and so on and on'), /begins with the letters GGUF/],
  ['a big-endian file', Buffer.from('47475546000000030000000000000000', 'hex'), /little-endian file, a big-endian one/],
  ['version 1', { version: 1 }, /version 2 or 3, version 1 came/],
  ['version 4', { version: 4 }, /version 2 or 3, version 4 came/],
  ['a file that ends within its header', encodeGguf(tensor({})).subarray(0, 40), /expected \d+ more bytes|at most/],
  ['more metadata than bytes', { metadataCount: 3 }, /at most \d metadata entries .* claims 3/],
  ['a lying count of metadata', { metadataCount: 2n ** 64n - 1n }, /at most \d metadata entries/],
  ['a lying count of tensors', { tensorCount: HUGE }, /at most \d tensors .* claims 9223372036854775808/],
  ['fewer tensors than there are', { ...tensor({}, ['b', vector]), tensorCount: 1 }, /expected a file of \d+ bytes/],
  ['no tensors where there are some', { ...tensor({}), tensorCount: 0 }, /expected a file of \d+ bytes/],
  ['more tensors than there are', { ...tensor({}), tensorCount: 2 }, /expected/],
  ['less metadata than there is', { metadata: [['a', 'x']], metadataCount: 0 }, /expected a file of 24 bytes/],
  ['a key longer than the file', entry(uint64(60_000)), /expected 60000 more bytes of header/],
  ['a key of 2^63 bytes', entry(uint64(HUGE)), /at most 65535 bytes of text, it claims 9223372036854775808/],
  ['a key without letters', entry(uint64(0)), /a key of the metadata: expected a text, an empty one came/],
  ['a key that is no text', entry(text(INVALID_TEXT)), /a key of the metadata: expected UTF-8 text/],
  [
    'a key twice',
    {
      metadata: [
        ['k', 1],
        ['k', 2],
      ],
    },
    /each key of the metadata once, "k" comes twice/,
  ],
  ['a value of type 13', entry(text('k'), uint32(13)), /"k": expected a type of value from 0 to 12, 13 came/],
  ['a bool of 2', { metadata: [['k', { type: VALUE_TYPE.bool, bytes: Buffer.of(2) }]] }, /a bool of 0 or 1, 2 came/],
  ['a text of 2^63 bytes', entry(text('k'), uint32(8), uint64(HUGE)), /"k": expected at most 16777216 bytes of text/],
  ['a text longer than the file', entry(text('k'), uint32(8), uint64(5000)), /expected 5000 more bytes/],
  ['a text of other bytes', entry(text('k'), uint32(8), text(INVALID_TEXT)), /"k": expected UTF-8 text/],
  ['an array of arrays', array(VALUE_TYPE.array, 1), /an array of texts or numbers, an array of arrays came/],
  ['an array of type 99', array(99, 1), /a type of value from 0 to 12, 99 came/],
  ['an array longer than the file', array(VALUE_TYPE.uint32, 1000), /an array of at most \d+ values, it claims 1000/],
  ['an array of 2^63 numbers', array(VALUE_TYPE.uint8, HUGE), /an array of at most \d+ values/],
  ['an array of more texts than bytes', array(VALUE_TYPE.string, 100), /an array of at most \d+ values/],
  ['an alignment of 0', { metadata: [['general.alignment', 0]] }, /a power of two, 0 came/],
  ['an alignment of 24', { metadata: [['general.alignment', 24]] }, /a power of two, 24 came/],
  ['an alignment of text', { metadata: [['general.alignment', '32']] }, /a power of two, "32" came/],
  ['an alignment of a half', { metadata: [['general.alignment', float(0.5)]] }, /a power of two, 0\.5 came/],
  ['a tensor without a name', { tensors: [['', vector]] }, /the name of a tensor: expected a text, an empty one/],
  ['a name of 65 bytes', { tensors: [['x'.repeat(65), vector]] }, /the name of a tensor: expected at most 64 bytes/],
  ['a name twice', tensor({}, ['a', vector]), /each name of a tensor once, "a" comes twice/],
  ['a tensor without dimensions', tensor({ shape: [] }), /tensor "a": expected 1 to 4 dimensions, 0 came/],
  ['a tensor of five dimensions', tensor({ shape: [1, 1, 1, 1, 2] }), /expected 1 to 4 dimensions, 5 came/],
  ['a dimension of 0', tensor({ shape: [0, 2] }), /sizes of at least 1, \[2,0\] came/],
  ['sizes whose product wraps to 0', tensor({ shape: [2n ** 32n, 2n ** 32n] }), /\[4294967296,4294967296\] takes/],
  ['sizes whose product overflows', tensor({ shape: Array(4).fill(2n ** 64n - 1n) }), /expected at most the \d+ bytes/],
  ['a tensor larger than the file', tensor({ shape: [100] }), /expected at most the \d+ bytes of the file, \[100\]/],
  ['rows of half a block', tensor({ shape: [2, 16], type: 2 }), /whole blocks of 32 values \(Q4_0\), rows of 16 came/],
  ['a type that is not there', tensor({ type: 99 }), /expected one of the types F32, .*, BF16, unknown type 99 came/],
  ['a type that is not read', tensor({ type: 16 }), /expected one of the types F32, .*, IQ2_XXS came/],
  ['whole numbers', tensor({ type: 26 }), /expected one of the types F32, .*, I32 came/],
  ['an offset that is not aligned', tensor({ offset: 4 }), /is not where the one before it ends.*expected byte \d+/],
  ['an offset beyond the file', tensor({ offset: 10_000 }), /begin within the file of \d+ bytes, offset 10000 came/],
  ['an offset of 2^64 - 1', tensor({ offset: 2n ** 64n - 1n }), /begin within the file/],
  ['tensors that share their bytes', tensor({}, ['b', { ...vector, offset: 0 }]), /tensor "b" overlaps another one/],
  [
    'tensors that overlap',
    tensor({ shape: [10], data: floats(Array(10).fill(1)) }, ['b', { ...vector, offset: 32 }]),
    /tensor "b" overlaps/,
  ],
  ['a hole between tensors', tensor({}, ['b', { ...vector, offset: 64 }]), /tensor "b" is not where the one before/],
  [
    'a file cut within its data',
    encodeGguf({ ...tensor({}), padded: false }).subarray(0, -1),
    /expected a file of \d+/,
  ],
  ['bytes behind the last tensor', Buffer.concat([encodeGguf(tensor({})), Buffer.alloc(32)]), /expected a file of \d+/],
];

for (const [what, parts, message] of HOSTILE) {
  test(`refused: ${what}`, async (t) => {
    await assertRefused(await writeGguf(t, Buffer.isBuffer(parts) ? parts : encodeGguf(parts)), message);
  });
}

const block = (half: number): Uint8Array => Buffer.concat([Buffer.of(half & 255, half >> 8), Buffer.alloc(16, 0x99)]);
const NOT_FINITE: readonly (readonly [string, Partial<Tensor>, RegExp])[] = [
  ['F32', { data: floats([1, Number.NaN]) }, /finite values, NaN stands at 1/],
  ['F16', { type: 1, data: Buffer.of(0, 0x3c, 0, 0xfc) }, /finite values, -Infinity stands at 1/],
  ['BF16', { type: 30, data: Buffer.of(0x80, 0x7f, 0, 0) }, /finite values, Infinity stands at 0/],
  ['Q4_0, by its scale', { shape: [32], type: 2, data: block(0x7c00) }, /finite values, Infinity stands at 0/],
];

for (const [type, change, message] of NOT_FINITE) {
  test(`refused: values of ${type} that are not finite`, async (t) => {
    const file = await openFile(t, tensor(change));
    await assert.rejects(file.read('a'), (error: Error) => {
      assert.equal(error.name, 'StorageError');
      assert.match(error.message, message);
      assert.match(error.message, /^model\.gguf: tensor "a": expected/);
      return true;
    });
  });
}

test('a file that is not there is missing, not broken', async (t) => {
  const path = await writeGguf(t, undefined);
  await assert.rejects(GgufFile.open(path), { name: 'StorageError', reason: 'missing' });
});

test('refused: a file that was cut after it was opened', async (t) => {
  const path = await writeGguf(t, encodeGguf({ ...tensor({}), padded: false }));
  const file = await GgufFile.open(path);
  t.after(() => file.close());
  const handle = await open(path, 'r+');
  await handle.truncate((await handle.stat()).size - 3);
  await handle.close();
  await assert.rejects(file.read('a'), { name: 'StorageError', message: /ended 3 bytes early/ });
});

test('refused: a header above the bound, in a file that is long enough for it', async (t) => {
  const path = await writeGguf(t, entry(text('k'), uint32(9), uint32(VALUE_TYPE.uint64), uint64(2 ** 24)));
  const handle = await open(path, 'r+');
  // sparse: the length costs no disk
  await handle.truncate(2 ** 29);
  await handle.close();
  await assertRefused(path, /an array of at most 8388\d+ values, it claims 16777216/);
});
