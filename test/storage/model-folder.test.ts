import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFile, mkdir, open, readdir, readFile, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { readJson, readText, resolveFolder, WeightFiles } from '../../src/storage/model-folder.ts';
import { encodeSafetensors } from '../../src/storage/safetensors.ts';
import { StorageError } from '../../src/storage/storage-error.ts';
import { oracleTest, repositoryPath } from '../support/oracle.ts';
import { temporaryFolder, writeTinyModel } from '../support/tiny-model.ts';

const INDEX = 'model.safetensors.index.json';

function refuses(reason: StorageError['reason'], message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof StorageError, `${error}`);
    assert.match(error.message, message);
    assert.equal(error.reason, reason);
    assert.ok(error.message.length < 500, `a message of ${error.message.length} characters`);
    return true;
  };
}

/** Reads every tensor of a folder. */
async function readWeights(folder: string): Promise<Map<string, Float32Array>> {
  const weights = await WeightFiles.open(folder);
  try {
    const values = new Map<string, Float32Array>();
    for (const name of [...weights.names()].sort()) values.set(name, await weights.read(name));
    return values;
  } finally {
    await weights.close();
  }
}

/** Where the files lead that this process holds open; nothing where the system does not say. */
async function openFiles(): Promise<readonly string[]> {
  const descriptors = await readdir('/proc/self/fd').catch(() => []);
  const paths = await Promise.all(descriptors.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')));
  return paths.filter((path) => path.endsWith('.safetensors')).sort();
}

async function parentWith(t: TestContext, ...folders: readonly string[]): Promise<string> {
  const parent = await temporaryFolder(t);
  for (const folder of folders) await mkdir(join(parent, folder));
  return parent;
}

for (const name of [
  '..',
  '.',
  '',
  '../models',
  'a/b',
  'a\\b',
  '/etc',
  'a\0b',
  '.hidden',
  'ä',
  ' a',
  'x'.repeat(129),
  `${'../'.repeat(1e5)}`,
]) {
  test(`a name is never a path: ${JSON.stringify(name.slice(0, 12))} is refused`, async (t) => {
    const parent = await parentWith(t, 'a');
    await assert.rejects(resolveFolder(parent, name), refuses('name', /Expected a folder name of letters/));
  });
}

test('a name finds the folder of that name', async (t) => {
  const parent = await parentWith(t, 'flan-t5_small.v1');
  assert.match(await resolveFolder(parent, 'flan-t5_small.v1'), /flan-t5_small\.v1$/);
});

test('a name that is not there is answered with those that are', async (t) => {
  const parent = await parentWith(t, 'one', 'two', '.hidden');
  await writeFile(join(parent, 'file'), '');
  await assert.rejects(resolveFolder(parent, 'three'), refuses('missing', /model folder \(one, two\), three came/));
  await assert.rejects(resolveFolder(parent, 'file'), refuses('missing', /it is a file/));
  await assert.rejects(resolveFolder(join(parent, 'gone'), 'one'), refuses('missing', /\(none\), one came/));
});

test('a linked folder is refused when it leads out of the models directory, also to a neighbour of like name', async (t) => {
  const root = await parentWith(t, 'models', 'models-secret');
  await mkdir(join(root, 'models', 'real'));
  await symlink(join(root, 'models-secret'), join(root, 'models', 'link'));
  await symlink('real', join(root, 'models', 'inner'));
  await symlink('loop', join(root, 'models', 'loop'));
  const models = join(root, 'models');
  await assert.rejects(resolveFolder(models, 'link'), refuses('name', /link that leads out/));
  await assert.rejects(resolveFolder(models, 'loop'), refuses('missing', /loop came/));
  assert.equal(await resolveFolder(models, 'inner'), await resolveFolder(models, 'real'));
});

test('a linked file is refused when it leads out of its folder', async (t) => {
  const { folder, parent } = await writeTinyModel(t);
  for (const file of ['config.json', 'model.safetensors', 'tokenizer.json']) {
    await rename(join(folder, file), join(parent, file));
    await symlink(join(parent, file), join(folder, file));
  }
  await assert.rejects(readJson(folder, 'config.json'), refuses('invalid', /"config\.json".*leads out/));
  await assert.rejects(readText(folder, 'tokenizer.json'), refuses('invalid', /"tokenizer\.json".*leads out/));
  await assert.rejects(WeightFiles.open(folder), refuses('invalid', /"model\.safetensors".*leads out/));
});

test('JSON that is missing is undefined; broken JSON is refused', async (t) => {
  const folder = await temporaryFolder(t);
  const write = (text: string | Uint8Array): Promise<void> => writeFile(join(folder, 'config.json'), text);
  assert.equal(await readJson(folder, 'config.json'), undefined);
  assert.equal(await readText(folder, 'config.json'), undefined);
  await write('{"a": 1}');
  assert.deepEqual(await readJson(folder, 'config.json'), { a: 1 });
  for (const [text, message] of [
    ['{"a": 1', /config\.json: expected JSON/],
    ['', /expected JSON/],
    ['[1]', /a JSON object, \[1\] came/],
    ['null', /a JSON object, null came/],
    ['"text"', /a JSON object, "text" came/],
    ['['.repeat(5e5) + ']'.repeat(5e5), /a JSON object, \[a list\] came/],
    [Uint8Array.of(0x7b, 0xff, 0x7d), /expected UTF-8/],
  ] as const) {
    await write(text);
    await assert.rejects(readJson(folder, 'config.json'), refuses('invalid', message));
  }
});

test('a JSON file above its bound is refused before it is read', async (t) => {
  const folder = await temporaryFolder(t);
  for (const [file, mebibytes] of [
    ['config.json', 1],
    ['tokenizer.json', 64],
    [INDEX, 16],
  ] as const) {
    const handle = await open(join(folder, file), 'w');
    // sparse: the length costs no disk
    await handle.truncate(mebibytes * 2 ** 20 + 1);
    await handle.close();
    await assert.rejects(readJson(folder, file), refuses('invalid', /expected at most \d+ bytes, it has \d+/));
    await assert.rejects(readText(folder, file), refuses('invalid', /expected at most/));
  }
});

test('a pipe or a folder in place of JSON is refused, without waiting', {
  skip: process.platform === 'win32',
}, async (t) => {
  const folder = await temporaryFolder(t);
  execFileSync('mkfifo', [join(folder, 'config.json')]);
  await mkdir(join(folder, 'tokenizer.json'));
  await assert.rejects(readJson(folder, 'config.json'), refuses('invalid', /regular file/));
  await assert.rejects(readText(folder, 'tokenizer.json'), refuses('invalid', /regular file/));
});

test('shards hold what one file holds', async (t) => {
  const one = await writeTinyModel(t, { gated: true });
  const many = await writeTinyModel(t, { gated: true, shardCount: 3 });
  assert.equal((await readdir(many.folder)).filter((file) => file.endsWith('.safetensors')).length, 3);
  assert.deepEqual(await readWeights(many.folder), await readWeights(one.folder));
});

oracleTest(
  "the oracle's nine shards hold what its one file holds",
  'oracle/models/t5-gated-untied-sharded',
  async (path) => {
    assert.deepEqual(await readWeights(path), await readWeights(repositoryPath('test/fixtures/t5-gated-untied')));
  },
);

for (const pickle of ['pytorch_model.bin', 'model.pt', 'model.ckpt', 'weights.pkl']) {
  test(`a folder that holds only ${pickle} is refused, saying that it is a pickle`, async (t) => {
    const { folder } = await writeTinyModel(t);
    await rm(join(folder, 'model.safetensors'));
    await writeFile(join(folder, pickle), '\x80\x02}q\x00.');
    await assert.rejects(WeightFiles.open(folder), refuses('invalid', new RegExp(`the pickle "${pickle}" came`)));
  });
}

test('a folder without any weights is refused, saying which files are read', async (t) => {
  const { folder } = await writeTinyModel(t);
  await rm(join(folder, 'model.safetensors'));
  await assert.rejects(WeightFiles.open(folder), refuses('invalid', /model\.safetensors or .*index\.json: neither/));
});

interface Index {
  readonly weight_map: Record<string, unknown>;
}

type Change = (folder: string, index: Index) => Promise<void> | void;

const FIRST_SHARD = 'model-00001-of-00002.safetensors';
const SECOND_SHARD = 'model-00002-of-00002.safetensors';

/** The index says that `shard` holds `tensor`. */
function put(shard: unknown, tensor = 'shared.weight'): Change {
  return (_, index) => {
    index.weight_map[tensor] = shard;
  };
}

/** Each changes a valid folder of two shards; `../other.safetensors` is a valid file beside that folder. */
const BROKEN_SHARDS: readonly (readonly [string, Change, RegExp])[] = [
  ['a shard that is missing', (folder) => rm(join(folder, SECOND_SHARD)), /shard model-00002-.* it is missing/],
  ['a tensor that its shard does not hold', put(FIRST_SHARD, 'extra'), /expected tensor "extra"/],
  ['a shard of another folder', put('../other.safetensors'), /files of its folder, "\.\.\/other\.safetensors" came/],
  [
    'a shard by its absolute path',
    put(repositoryPath('test/fixtures/t5-relu-tied/model.safetensors')),
    /of its folder/,
  ],
  ['a shard that is no safetensors file by name', put('pytorch_model.bin'), /"pytorch_model\.bin" came/],
  ['a shard name that is a number', put(7), /files of its folder, 7 came/],
  ['a shard name of a million letters', put('x'.repeat(1e6)), /files of its folder/],
  ['a shard that is cut', (folder) => writeFile(join(folder, FIRST_SHARD), 'cut'), /only 3 bytes/],
  [
    'a shard that links out of its folder',
    async (folder) => {
      await rm(join(folder, SECOND_SHARD));
      await symlink(join(folder, '../other.safetensors'), join(folder, SECOND_SHARD));
    },
    /leads out of it/,
  ],
];

for (const [what, change, message] of BROKEN_SHARDS) {
  test(`refused: ${what}`, async (t) => {
    const { folder } = await writeTinyModel(t, { shardCount: 2 });
    await copyFile(join(folder, SECOND_SHARD), join(folder, '../other.safetensors'));
    const index = JSON.parse(await readFile(join(folder, INDEX), 'utf8')) as Index;
    await change(folder, index);
    await writeFile(join(folder, INDEX), JSON.stringify(index));
    const before = await openFiles();
    await assert.rejects(WeightFiles.open(folder), refuses('invalid', message));
    assert.deepEqual(await openFiles(), before, 'a refused file stays open');
  });
}

for (const weightMap of [undefined, null, [], 'text']) {
  test(`refused: an index whose weight_map is ${JSON.stringify(weightMap)}`, async (t) => {
    const folder = await temporaryFolder(t);
    await writeFile(join(folder, INDEX), JSON.stringify({ weight_map: weightMap }));
    await assert.rejects(WeightFiles.open(folder), refuses('invalid', /expected an object weight_map/));
  });
}

test('refused: more shards than are ever published', async (t) => {
  const folder = await temporaryFolder(t);
  const weightMap: Record<string, string> = {};
  for (let shard = 0; shard < 513; shard++) {
    const bytes = encodeSafetensors(new Map([[`tensor ${shard}`, { shape: [1], data: Float32Array.of(shard) }]]));
    await writeFile(join(folder, `${shard}.safetensors`), bytes);
    weightMap[`tensor ${shard}`] = `${shard}.safetensors`;
  }
  await writeFile(join(folder, INDEX), JSON.stringify({ weight_map: weightMap }));
  await assert.rejects(WeightFiles.open(folder), refuses('invalid', /at most 512 shards/));
});
