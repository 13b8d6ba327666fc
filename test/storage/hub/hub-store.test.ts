/** What is fetched, where it is kept, and when the hub is asked. */
import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { findFile } from '../../../src/storage/bounded-file.ts';
import type { HubProgress } from '../../../src/storage/hub/snapshot-fetch.ts';
import { readJson, WeightFiles } from '../../../src/storage/model-folder.ts';
import { hubRefuses, makeHubPlace, modelFiles } from '../../support/hub-place.ts';
import { gitDigest, sha256 } from '../../support/hub-server.ts';
import { writeTinyModel } from '../../support/tiny-model.ts';

const NEEDED = ['config.json', 'tokenizer.json', 'generation_config.json', 'model.safetensors'];

test("a model lies in Hugging Face's layout, without what is not needed", async (t) => {
  const place = await makeHubPlace(t);
  const commit = place.hub.add({ repo: 'owner/name', files: modelFiles });
  const progress: HubProgress[] = [];
  const found = await place.open().resolve('model', 'hub:owner/name', { onProgress: (one) => progress.push(one) });
  const repository = join(place.cacheDir, 'models--owner--name');
  const folder = join(repository, 'snapshots', commit);
  assert.deepEqual(found, { kind: 'model', source: `hub:owner/name@${commit}`, commit, folder, files: NEEDED });
  const weights = sha256(modelFiles['model.safetensors']);
  assert.equal(await readlink(join(folder, 'model.safetensors')), `../../blobs/${weights}`);
  const config = gitDigest(Buffer.from(modelFiles['config.json']));
  assert.equal(await readlink(join(folder, 'config.json')), `../../blobs/${config}`);
  assert.deepEqual(await readFile(join(folder, 'model.safetensors')), modelFiles['model.safetensors']);
  assert.equal(await readFile(join(repository, 'refs', 'main'), 'utf8'), commit);
  const blobs = NEEDED.map((name) => {
    const bytes = Buffer.from(modelFiles[name as keyof typeof modelFiles]);
    return `models--owner--name/blobs/${name.endsWith('.json') ? gitDigest(bytes) : sha256(bytes)}`;
  });
  const links = NEEDED.map((name) => `models--owner--name/snapshots/${commit}/${name}`);
  assert.deepEqual(await place.kept(), [...blobs, 'models--owner--name/refs/main', ...links].sort());
  assert.deepEqual(place.hub.asked(/README|pytorch/), []);
  const last = progress.at(-1);
  const bytes = NEEDED.reduce((sum, name) => sum + modelFiles[name as keyof typeof modelFiles].length, 0);
  assert.deepEqual(last, { file: 'model.safetensors', bytesDone: bytes, bytesTotal: bytes, bytesBefore: 0 });
});

test('what is here is not fetched again; a commit is not even asked for', async (t) => {
  const place = await makeHubPlace(t);
  const commit = place.hub.add({ repo: 'owner/name', files: modelFiles, revisions: ['main', 'v1'] });
  const first = await place.open().resolve('model', 'hub:owner/name');
  const asked = place.hub.requests.length;
  assert.deepEqual(await place.open().resolve('model', 'hub:owner/name@v1'), first);
  assert.deepEqual(place.hub.asked().slice(asked), ['hub GET /api/models/owner/name/revision/v1']);
  assert.deepEqual(await place.open().resolve(undefined, `hub:owner/name@${commit}`), first);
  assert.equal(place.hub.requests.length, asked + 1);
});

test('a new commit of a branch brings only what has changed', async (t) => {
  const place = await makeHubPlace(t);
  const before = place.hub.add({ repo: 'owner/name', files: modelFiles });
  await place.open().resolve('model', 'hub:owner/name');
  const after = place.hub.add({ repo: 'owner/name', files: { ...modelFiles, 'config.json': '{"model_type":"gpt2"}' } });
  const asked = place.hub.requests.length;
  const found = await place.open().resolve('model', 'hub:owner/name');
  assert.equal(found.commit, after);
  assert.deepEqual(
    place.hub
      .asked()
      .slice(asked)
      .filter((line) => line.includes('GET')),
    ['hub GET /api/models/owner/name/revision/main', `hub GET /owner/name/resolve/${after}/config.json`],
  );
  const offline = place.open({ offline: true });
  assert.equal((await offline.resolve('model', 'hub:owner/name')).commit, after);
  assert.equal((await offline.resolve('model', `hub:owner/name@${before}`)).commit, before);
});

test('weights in several files are opened from the links', async (t) => {
  const place = await makeHubPlace(t);
  const tiny = await writeTinyModel(t, { shardCount: 3 });
  const names = ['config.json', 'tokenizer.json', 'model.safetensors.index.json'];
  for (const shard of [1, 2, 3]) names.push(`model-0000${shard}-of-00003.safetensors`);
  const entries = await Promise.all(
    names.map(async (name) => [name, await readFile(join(tiny.folder, name))] as const),
  );
  place.hub.add({ repo: 'owner/sharded', files: Object.fromEntries(entries) });
  const { folder, files } = await place.open().resolve('model', 'hub:owner/sharded');
  assert.deepEqual(files, names);
  const weights = await WeightFiles.open(folder);
  t.after(() => weights.close());
  assert.deepEqual([...weights.names()].sort(), [...tiny.tensors.keys()].sort());
  assert.deepEqual(await readJson(folder, 'config.json'), tiny.config);
  assert.deepEqual((await place.open({ offline: true }).resolve('model', 'hub:owner/sharded')).files, names);
});

test('an index that names what is not there is refused before weights are fetched', async (t) => {
  const place = await makeHubPlace(t);
  const index = 'model.safetensors.index.json';
  const cases: readonly [unknown, RegExp][] = [
    [{ weight_map: { a: 'model-1.safetensors' } }, /the file model-1\.safetensors that .* names, there is none/],
    [{ weight_map: { a: '../../x.safetensors' } }, /expected the weight_map .* "\.\.\/\.\.\/x\.safetensors" came/],
    [{ weight_map: { a: 'x.bin' } }, /expected the weight_map .* "x\.bin" came/],
    [{ weight_map: {} }, /0 of them came/],
    [{}, /0 of them came/],
    ['[', /expected JSON/],
  ];
  for (const [number, [json, message]] of cases.entries()) {
    const text = typeof json === 'string' ? json : JSON.stringify(json);
    const files = { 'config.json': '{}', 'tokenizer.json': '{}', [index]: text, 'x.safetensors': 'weights' };
    place.hub.add({ repo: `owner/index-${number}`, files });
    await assert.rejects(place.open().resolve('model', `hub:owner/index-${number}`), hubRefuses('invalid', message));
  }
  assert.deepEqual(place.hub.asked(/GET .*safetensors$/), []);
});

test('adapters and datasets are found by themselves', async (t) => {
  const place = await makeHubPlace(t);
  const adapter = { 'adapter_config.json': '{}', 'adapter_model.safetensors': 'a', 'adapter_model.bin': 'b' };
  place.hub.add({ repo: 'owner/adapter', files: adapter });
  const rows = { 'train.csv': 'dialogue,summary\na,b\n', 'test.jsonl': '{}\n', 'README.md': '' };
  const commit = place.hub.add({ type: 'dataset', repo: 'owner/talk', files: rows });
  const { kind, files } = await place.open().resolve(undefined, 'hub:owner/adapter');
  assert.deepEqual([kind, files], ['adapter', ['adapter_config.json', 'adapter_model.safetensors']]);
  const dataset = await place.open().resolve(undefined, 'hub:datasets/owner/talk');
  const folder = join(place.cacheDir, 'datasets--owner--talk', 'snapshots', commit);
  assert.deepEqual(dataset, {
    kind: 'dataset',
    source: `hub:datasets/owner/talk@${commit}`,
    commit,
    folder,
    files: ['test.jsonl', 'train.csv'],
  });
  assert.deepEqual(await place.open().resolve('dataset', 'hub:owner/talk'), dataset);
});

test('where one file is named, its rivals are not in the folder', async (t) => {
  const place = await makeHubPlace(t);
  const files = {
    'a.gguf': 'one',
    'b.gguf': 'other',
    'tokenizer.json': '{}',
    'model.safetensors': 'x',
    'config.json': '{}',
  };
  const commit = place.hub.add({ repo: 'owner/many', files });
  await place.open().resolve('model', 'hub:owner/many');
  const a = await place.open().resolve('model', 'hub:owner/many#a.gguf');
  const b = await place.open().resolve('model', `hub:owner/many@${commit}#b.gguf`);
  assert.deepEqual([a.files, a.source], [['tokenizer.json', 'a.gguf'], `hub:owner/many@${commit}#a.gguf`]);
  assert.deepEqual((await readdir(a.folder)).sort(), ['a.gguf', 'tokenizer.json']);
  assert.deepEqual((await readdir(b.folder)).sort(), ['b.gguf', 'tokenizer.json']);
  const path = await findFile(b.folder, 'b.gguf');
  assert.equal(path, join(place.cacheDir, 'models--owner--many', 'blobs', sha256(Buffer.from('other'))));
  assert.deepEqual(await place.open({ offline: true }).resolve('model', b.source), b);
});

test('two that want the same share one download', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/name', files: modelFiles });
  const [one, other] = await Promise.all(
    [place.open(), place.open()].map((store) => store.resolve('model', 'hub:owner/name')),
  );
  assert.deepEqual(one, other);
  assert.equal(place.hub.asked(/^store GET/).length, 1);
});

test('what huggingface_hub has fetched is used, whole or in part', async (t) => {
  const place = await makeHubPlace(t);
  const commit = place.hub.add({ repo: 'owner/name', files: modelFiles });
  const repository = join(place.cacheDir, 'models--owner--name');
  const weights = sha256(modelFiles['model.safetensors']);
  await mkdir(join(repository, 'blobs'), { recursive: true });
  await writeFile(join(repository, 'blobs', weights), modelFiles['model.safetensors']);
  const { folder } = await place.open().resolve('model', 'hub:owner/name');
  assert.deepEqual(place.hub.asked(/^store/), []);
  assert.equal(await readlink(join(folder, 'model.safetensors')), `../../blobs/${weights}`);
  assert.equal(folder, join(repository, 'snapshots', commit));
});

test('a cache that takes no files does for what is in it', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/name', files: modelFiles, revisions: ['main', 'v1'] });
  const found = await place.open().resolve('model', 'hub:owner/name');
  // names that are folders cannot be written, whoever tries: neither a lock nor a note
  await rm(join(place.cacheDir, '.locks'), { recursive: true });
  await writeFile(join(place.cacheDir, '.locks'), '');
  await mkdir(join(place.cacheDir, 'models--owner--name', 'refs', 'v1', 'x'), { recursive: true });
  assert.deepEqual(await place.open().resolve('model', 'hub:owner/name@v1'), found);
});

test('a token is sent to the hub alone, from the environment or its file', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/secret', files: modelFiles, token: 'hf_abc' });
  await place.open({ token: 'hf_abc' }).resolve('model', 'hub:owner/secret');
  const sent = place.hub.requests.map(({ server, headers }) => [server, headers.authorization] as const);
  assert.ok(sent.some(([server]) => server === 'store'));
  for (const [server, authorization] of sent) {
    assert.equal(authorization, server === 'hub' ? 'Bearer hf_abc' : undefined);
  }
  const other = await makeHubPlace(t);
  other.hub.add({ repo: 'owner/secret', files: modelFiles, token: 'hf_def' });
  const tokenFile = join(other.cacheDir, '..', 'token');
  await writeFile(tokenFile, 'hf_def\n');
  await other.open({ tokenFile }).resolve('model', 'hub:owner/secret');
});

test('a hub that has moved is followed, without the token where that is another one', async (t) => {
  const [old, other] = [await makeHubPlace(t), await makeHubPlace(t)];
  const files = { 'adapter_config.json': '{}', 'adapter_model.safetensors': 'a' };
  const commit = other.hub.add({ repo: 'owner/name', files });
  old.hub.add({ repo: 'owner/name', files });
  // a mirror: it sends on whatever it is asked for, and says nothing itself
  const away = (path: string) => ({ status: 307, headers: { location: `${other.hub.url}${path}` } });
  old.hub.fail(/GET \/api/, away('/api/models/owner/name/revision/main'));
  for (const name of Object.keys(files)) {
    old.hub.fail(new RegExp(name), away(`/owner/name/resolve/${commit}/${name}`), 2);
  }
  const found = await old.open({ token: 'hf_abc' }).resolve('adapter', 'hub:owner/name');
  assert.equal(found.commit, commit);
  assert.ok(other.hub.requests.length > 0);
  assert.deepEqual(
    other.hub.requests.filter(({ headers }) => headers.authorization !== undefined),
    [],
  );
});

test('a disk that is too small for all of it gets none of it', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/name', files: modelFiles });
  const store = place.open({}, { freeBytes: async () => 67_108_864 + 1000 });
  const full = hubRefuses(
    'download',
    /Expected 64\.3 MiB free in .*hub for owner\/name, there are 64\.0 MiB\. Make room/,
  );
  await assert.rejects(store.resolve('model', 'hub:owner/name'), full);
  assert.deepEqual(place.hub.asked(/^store/), []);
});

test('a file that is read whole must be small', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/name', files: { ...modelFiles, 'config.json': Buffer.alloc(1_048_577, ' ') } });
  const large = hubRefuses('invalid', /config\.json: expected at most 1048576 bytes, it has 1048577/);
  await assert.rejects(place.open().resolve('model', 'hub:owner/name'), large);
  assert.deepEqual(await place.kept(), []);
});

test('a folder that takes no files is told, with what to do', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/name', files: modelFiles });
  await writeFile(place.cacheDir, 'a file');
  const refused = hubRefuses('download', /to take what comes from the hub, it takes no files \(E\w+\)\. .*HF_HOME/);
  await assert.rejects(place.open().resolve('model', 'hub:owner/name'), refused);
});

test('small files that the hub sends on to another path of its own are followed there', async (t) => {
  const place = await makeHubPlace(t);
  const commit = place.hub.add({ repo: 'owner/moved', files: modelFiles, movesSmallFiles: true });
  const found = await place.open().resolve('model', 'hub:owner/moved', {});
  assert.deepEqual([found.commit, found.files], [commit, NEEDED]);
  assert.ok(place.hub.asked(/HEAD \/api\/resolve-cache/).length > 0);
  const config = await readFile(join(found.folder, 'config.json'));
  assert.deepEqual(config, Buffer.from(modelFiles['config.json']));
});
