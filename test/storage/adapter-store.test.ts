/** The registry's file: whole or not at all, and never trusted. */
import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { AdapterStore, type StoredAdapter, type StoredAdapters } from '../../src/storage/adapter-store.ts';
import { TakenError } from '../../src/storage/storage-error.ts';
import { seededNumbers } from '../support/seeded-numbers.ts';
import { temporaryFolder } from '../support/tiny-model.ts';

const SEED = 23;

function adapterOf(id: string, model = 'tiny'): StoredAdapter {
  const report = {
    matchedTensors: ['x'.repeat(300), 'b'],
    unmatchedTensors: [],
    zeroTensors: ['b'],
    warnings: ['"w"'],
  };
  const facts = {
    method: 'DORA' as const,
    rank: 8,
    alpha: 16.5,
    targetModules: ['q', 'v'],
    modules: ['decoder.block.0.layer.0.SelfAttention.q'],
    parameterCount: 100,
    sizeBytes: 1000,
    memoryBytes: 800,
    sha256: 'ab',
    configSha256: 'cd',
    report,
  };
  return { id, name: `name of ${id}`, model, source: `dir:${id}`, facts };
}

function stateOf(...adapters: readonly StoredAdapter[]): StoredAdapters {
  const [first] = adapters;
  return { adapters, active: new Map(first === undefined ? [] : [[first.model, first.id]]) };
}

const nothing: StoredAdapters = { adapters: [], active: new Map() };

function failOnBroken(warning: string): void {
  assert.fail(warning);
}

async function setUp(t: TestContext): Promise<{ readonly folder: string; readonly file: string }> {
  const folder = join(await temporaryFolder(t), 'data', 'inner');
  return { folder, file: join(folder, 'adapters.json') };
}

function openStore(t: TestContext, folder: string): AdapterStore {
  const store = new AdapterStore(folder);
  t.after(() => store.close());
  return store;
}

test('what was saved is what is read; without a file there is nothing', async (t) => {
  const { folder } = await setUp(t);
  const store = openStore(t, folder);
  assert.deepEqual(await store.read(failOnBroken), nothing);
  const state = stateOf(adapterOf('a'), adapterOf('b', 'other'));
  await store.save(state);
  assert.deepEqual(await new AdapterStore(folder).read(failOnBroken), state);
  await store.save(nothing);
  assert.deepEqual(await new AdapterStore(folder).read(failOnBroken), nothing);
  await store.close();
  assert.deepEqual(await readdir(folder), ['adapters.json']);
});

test('of two servers with one folder the first that writes keeps it, and the other writes over nothing that it has not read', async (t) => {
  const { folder } = await setUp(t);
  const [first, second] = [new AdapterStore(folder), new AdapterStore(folder)];
  for (const store of [first, second]) {
    assert.deepEqual(await store.read(failOnBroken), nothing);
    t.after(() => store.close());
  }
  const state = stateOf(adapterOf('a'));
  await first.save(state);
  const refused = (message: RegExp) => (error: unknown) => error instanceof TakenError && message.test(error.message);
  await assert.rejects(
    second.save(nothing),
    refused(/another one holds .*adapters\.lock\. Stop it, or set GISTQL_DATA_DIR to another folder\.$/),
  );
  await first.save(state);
  await first.close();
  await assert.rejects(second.save(nothing), refused(/another one has written it since\. Start this server again/));
  assert.deepEqual(await second.read(failOnBroken), state);
  await second.save(nothing);
  await assert.rejects(first.save(state), refused(/another one holds/));
});

test('many saves at once: each resolves when it or a later one is on the disk, and the last one stays', async (t) => {
  const { folder } = await setUp(t);
  const store = openStore(t, folder);
  const adapters = Array.from({ length: 40 }, (_, index) => adapterOf(`a${index}`));
  const saves = adapters.map(async (_, index) => {
    await store.save(stateOf(...adapters.slice(0, index + 1)));
    const { adapters: found } = await new AdapterStore(folder).read(failOnBroken);
    assert.ok(found.length > index, `${found.length} after save ${index}`);
  });
  await Promise.all(saves);
  assert.equal((await new AdapterStore(folder).read(failOnBroken)).adapters.length, 40);
});

test('whoever reads while it is written reads one whole state or the other', async (t) => {
  const { folder, file } = await setUp(t);
  const store = openStore(t, folder);
  const [small, large] = [
    stateOf(adapterOf('a')),
    stateOf(...Array.from({ length: 500 }, (_, n) => adapterOf(`a${n}`))),
  ];
  await store.save(small);
  let writing = true;
  const writer = (async () => {
    for (let count = 0; count < 20; count++) await store.save(count % 2 === 0 ? large : small);
    writing = false;
  })();
  let reads = 0;
  while (writing) {
    const { adapters } = JSON.parse(await readFile(file, 'utf8')) as { adapters: unknown[] };
    assert.ok([1, 500].includes(adapters.length), `${adapters.length}`);
    reads++;
  }
  await writer;
  assert.ok(reads > 0);
});

test('what a write that was cut short left behind is not read, and a save that fails does not end saving', async (t) => {
  const { folder, file } = await setUp(t);
  const store = openStore(t, folder);
  const state = stateOf(adapterOf('a'));
  await store.save(state);
  const unfinished = join(folder, `.adapters.json.${process.pid}.part`);
  await writeFile(unfinished, (await readFile(file)).subarray(0, 40));
  assert.deepEqual(await new AdapterStore(folder).read(failOnBroken), state);
  await rm(unfinished);
  await mkdir(unfinished);
  await assert.rejects(store.save(nothing));
  assert.deepEqual(await new AdapterStore(folder).read(failOnBroken), state);
  await rm(unfinished, { recursive: true });
  await store.save(nothing);
  assert.deepEqual(await new AdapterStore(folder).read(failOnBroken), nothing);
});

const good = { version: 1, adapters: [adapterOf('a')], active: { tiny: 'a' } };
const [first] = good.adapters;

for (const [name, content, expected] of [
  ['no JSON', '{"version":1', /JSON/],
  ['no object', '[]', /JSON object, \[\] came/],
  ['bytes that are no text', Buffer.from([0xff, 0xfe, 0x00]), /UTF-8/],
  ['an unknown version', { ...good, version: 2 }, /version to be 1, 2 came/],
  ['adapters that are no list', { ...good, adapters: {} }, /adapters to be a list/],
  ['an adapter that is none', { ...good, adapters: [7] }, /adapters\[0\] to be an object, 7 came/],
  ['an id twice', { ...good, adapters: [first, first] }, /different ids/],
  ['a number for an id', { ...good, adapters: [{ ...first, id: 5 }] }, /adapters\[0\]\.id to be a text, 5 came/],
  [
    'a method of another kind',
    { ...good, adapters: [{ ...first, facts: { ...first?.facts, method: 'LOHA' } }] },
    /adapters\[0\]\.facts\.method to be one of LORA, RSLORA, DORA, "LOHA" came/,
  ],
  [
    'a negative size',
    { ...good, adapters: [{ ...first, facts: { ...first?.facts, memoryBytes: -1 } }] },
    /memoryBytes to be a whole number, -1 came/,
  ],
  [
    'modules that are no texts',
    { ...good, adapters: [{ ...first, facts: { ...first?.facts, modules: [1] } }] },
    /modules to be a list of texts/,
  ],
  ['an active adapter that is not there', { ...good, active: { tiny: 'b' } }, /active\.tiny/],
  ['an active adapter of another model', { ...good, active: { other: 'a' } }, /active\.other/],
] as const) {
  test(`a file with ${name} is put aside, told of, and counts as none`, async (t) => {
    const { folder, file } = await setUp(t);
    await mkdir(folder, { recursive: true });
    const bytes = Buffer.isBuffer(content) || typeof content === 'string' ? content : JSON.stringify(content);
    await writeFile(file, bytes);
    const warnings: string[] = [];
    const store = openStore(t, folder);
    assert.deepEqual(await store.read((warning) => warnings.push(warning)), nothing);
    assert.match(warnings.join(), expected);
    assert.match(warnings.join(), /kept as adapters\.json\.broken-1/);
    assert.deepEqual(await readFile(`${file}.broken-1`), Buffer.from(bytes));
    // the next broken one does not take its place
    await writeFile(file, 'again');
    await store.read(() => {});
    assert.deepEqual((await readdir(folder)).sort(), ['adapters.json.broken-1', 'adapters.json.broken-2']);
    await store.save(stateOf(adapterOf('a')));
    await store.close();
    assert.deepEqual(await new AdapterStore(folder).read(failOnBroken), stateOf(adapterOf('a')));
  });
}

test('a folder in its place is put aside like a broken file', async (t) => {
  const { folder, file } = await setUp(t);
  await mkdir(file, { recursive: true });
  const warnings: string[] = [];
  assert.deepEqual(await new AdapterStore(folder).read((warning) => warnings.push(warning)), nothing);
  assert.match(warnings.join(), /regular file/);
});

test(`a file with any byte changed or cut is read as it is or put aside, never anything else (seed ${SEED})`, async (t) => {
  const { folder, file } = await setUp(t);
  const store = openStore(t, folder);
  await store.save(stateOf(adapterOf('a'), adapterOf('b')));
  const whole = await readFile(file);
  const next = seededNumbers(SEED);
  let aside = 0;
  for (let round = 0; round < 300; round++) {
    const bytes = Buffer.from(whole.subarray(0, next() < 0.3 ? Math.floor(next() * whole.length) : whole.length));
    if (bytes.length > 0) bytes[Math.floor(next() * bytes.length)] = Math.floor(next() * 256);
    await writeFile(file, bytes);
    let broken = false;
    const { adapters } = await store.read(() => {
      broken = true;
    });
    assert.equal(adapters.length, broken ? 0 : 2);
    if (broken) await rm(`${file}.broken-1`);
    aside += broken ? 1 : 0;
  }
  assert.ok(aside > 50, `${aside} put aside`);
});
