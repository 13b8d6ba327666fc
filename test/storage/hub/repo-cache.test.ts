import assert from 'node:assert/strict';
import { link, lstat, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { findFile } from '../../../src/storage/bounded-file.ts';
import { parseHubSource } from '../../../src/storage/hub/hub-source.ts';
import { RepoCache } from '../../../src/storage/hub/repo-cache.ts';
import { StorageError } from '../../../src/storage/storage-error.ts';
import { temporaryFolder } from '../../support/tiny-model.ts';

const COMMIT = 'a'.repeat(40);
const DIGEST = 'b'.repeat(64);
const source = parseHubSource('hub:owner/name');

async function cacheWithBlob(t: TestContext, makeLink?: typeof symlink): Promise<RepoCache> {
  const cache = new RepoCache(await temporaryFolder(t), source, makeLink);
  await mkdir(cache.blobs, { recursive: true });
  await writeFile(join(cache.blobs, DIGEST), 'bytes');
  return cache;
}

test('where links are refused a file has a second name', async (t) => {
  for (const code of ['EPERM', 'ENOTSUP']) {
    const refused = async (): Promise<never> => {
      throw Object.assign(new Error('no links'), { code });
    };
    const cache = await cacheWithBlob(t, refused);
    await cache.name(COMMIT, 'config.json', DIGEST);
    const path = join(cache.snapshot(COMMIT), 'config.json');
    assert.ok((await lstat(path)).isFile());
    assert.equal(await readFile(path, 'utf8'), 'bytes');
    assert.ok(await cache.hasBlob(DIGEST));
  }
  const failing = async (): Promise<never> => {
    throw Object.assign(new Error('disk'), { code: 'EIO' });
  };
  const cache = await cacheWithBlob(t, failing);
  await assert.rejects(cache.name(COMMIT, 'config.json', DIGEST), { code: 'EIO' });
  assert.deepEqual(await cache.names(COMMIT), []);
});

test('a link that leads nowhere is not here, and is made anew', async (t) => {
  const cache = await cacheWithBlob(t);
  await mkdir(cache.snapshot(COMMIT), { recursive: true });
  await symlink('../../blobs/gone', join(cache.snapshot(COMMIT), 'config.json'));
  assert.deepEqual(await cache.names(COMMIT), []);
  await cache.name(COMMIT, 'config.json', DIGEST);
  assert.deepEqual(await cache.names(COMMIT), ['config.json']);
});

test('a revision is at a commit or unknown, whatever its file says', async (t) => {
  const cache = await cacheWithBlob(t);
  assert.equal(await cache.commitOf('main'), undefined);
  await cache.noteCommit('refs/pr/1', COMMIT);
  assert.equal(await cache.commitOf('refs/pr/1'), COMMIT);
  for (const text of ['', '../../..', 'A'.repeat(40), COMMIT.slice(1)]) {
    await writeFile(join(cache.folder, 'refs', 'main'), text);
    assert.equal(await cache.commitOf('main'), undefined, text);
  }
  assert.equal(await cache.commitOf(COMMIT), COMMIT);
});

test('notes of what a commit has are ours or those of huggingface_hub; broken ones are none', async (t) => {
  const cache = await cacheWithBlob(t);
  assert.equal(await cache.listing(COMMIT), undefined);
  const trees = join(cache.folder, 'trees');
  await mkdir(trees);
  const files = { 'config.json': { size: 1, blob_id: 'x' }, 'onnx/model.onnx': { size: 1, blob_id: 'y' } };
  await writeFile(join(trees, `${COMMIT}.json`), JSON.stringify({ format_version: 1, files }));
  assert.deepEqual(await cache.listing(COMMIT), ['config.json']);
  await cache.noteListing({ commit: COMMIT, names: ['a.json'] });
  assert.deepEqual(await cache.listing(COMMIT), ['a.json']);
  await writeFile(join(cache.folder, '.gistql', `${COMMIT}.json`), '{"names":');
  await rm(trees, { recursive: true });
  assert.equal(await cache.listing(COMMIT), undefined);
});

test('links of a snapshot lead to blobs of its repository and nowhere else', async (t) => {
  const cache = await cacheWithBlob(t);
  const snapshot = cache.snapshot(COMMIT);
  await cache.name(COMMIT, 'config.json', DIGEST);
  assert.equal(await findFile(snapshot, 'config.json'), join(cache.blobs, DIGEST));
  const shared = join(cache.cacheDir, 'blobs', DIGEST.slice(0, 2));
  await mkdir(shared, { recursive: true });
  await link(join(cache.blobs, DIGEST), join(shared, DIGEST));
  const other = new RepoCache(cache.cacheDir, parseHubSource('hub:owner/other'));
  await mkdir(other.blobs, { recursive: true });
  await writeFile(join(other.blobs, DIGEST), 'of another');
  await writeFile(join(cache.folder, 'refs'), 'x');
  await writeFile(join(cache.blobs, `${DIGEST}.gistql.incomplete`), 'half');
  await writeFile(join(cache.blobs, 'notes'), 'x');
  const targets: readonly [string, boolean][] = [
    [`../../../blobs/${DIGEST.slice(0, 2)}/${DIGEST}`, true],
    [`../../../models--owner--other/blobs/${DIGEST}`, false],
    ['../../refs', false],
    [`../../blobs/${DIGEST}.gistql.incomplete`, false],
    ['../../blobs/notes', false],
    ['/etc/passwd', false],
  ];
  for (const [target, isFine] of targets) {
    await rm(join(snapshot, 'x.json'), { force: true });
    await symlink(target, join(snapshot, 'x.json'));
    const found = findFile(snapshot, 'x.json');
    if (isFine) assert.ok((await found)?.endsWith(DIGEST), target);
    else await assert.rejects(found, (error) => error instanceof StorageError && /leads out of it/.test(error.message));
  }
});

test('what only looks like a snapshot may not lead to its neighbours', async (t) => {
  const root = await temporaryFolder(t);
  for (const folder of [
    ['models--a--b', 'other', COMMIT],
    ['models--a--b', 'snapshots', 'main'],
    ['a--b', 'snapshots', COMMIT],
    ['models--a--b', '.gistql', COMMIT],
    ['models--a--b', 'snapshots', COMMIT, 'x'],
  ]) {
    const path = join(root, ...folder);
    await mkdir(path, { recursive: true });
    await mkdir(join(path, '..', '..', 'blobs'), { recursive: true });
    await writeFile(join(path, '..', '..', 'blobs', DIGEST), 'bytes');
    await symlink(`../../blobs/${DIGEST}`, join(path, 'x.json'));
    await assert.rejects(findFile(path, 'x.json'), /leads out of it/);
  }
});
