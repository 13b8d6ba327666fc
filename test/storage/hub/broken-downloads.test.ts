/** Downloads that break off, stall, or bring other bytes: nothing has a blob's name but the blob. */
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ResolveOptions } from '../../../src/storage/hub/hub-store.ts';
import { type HubPlace, hubRefuses, makeHubPlace, modelFiles } from '../../support/hub-place.ts';
import { sha256 } from '../../support/hub-server.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const weights = modelFiles['model.safetensors'];
const digest = sha256(weights);
const PARTIAL = `${digest}.gistql.incomplete`;
const STORE = /^store GET/;

function blobsOf({ cacheDir }: HubPlace): string {
  return join(cacheDir, 'models--owner--name', 'blobs');
}

/** Ranges that were asked of the store. */
function rangesOf({ hub }: HubPlace): readonly (string | undefined)[] {
  return hub.requests.filter(({ server }) => server === 'store').map(({ headers }) => headers.range);
}

/** Cuts answers when so many bytes of a file have arrived: a connection that is cut takes along what has not. */
function cutAt({ hub }: HubPlace, file: string, ends: readonly number[]): ResolveOptions {
  const arrivals = new EventEmitter();
  for (const [index, end] of ends.entries()) {
    const where = file === 'model.safetensors' ? STORE : new RegExp(`GET .*${file}`);
    hub.fail(where, { hangAfter: end - (ends[index - 1] ?? 0), cut: once(arrivals, String(end)) });
  }
  let [arrived, before] = [0, 0];
  return {
    onProgress: (progress) => {
      if (progress.file === file) arrived += progress.bytesDone - before;
      before = progress.bytesDone;
      arrivals.emit(String(arrived));
    },
  };
}

async function assertWhole(place: HubPlace, folder: string): Promise<void> {
  assert.deepEqual(await readFile(join(folder, 'model.safetensors')), weights);
  assert.deepEqual(
    (await readdir(blobsOf(place))).filter((name) => !/^[0-9a-f]{40,64}$/.test(name)),
    [],
  );
}

test('a body that is cut goes on where it was cut', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/name', files: modelFiles });
  const options = cutAt(place, 'model.safetensors', [100_000, 150_000]);
  const { folder } = await place.open().resolve('model', 'hub:owner/name', options);
  assert.deepEqual(rangesOf(place), [undefined, 'bytes=100000-', 'bytes=150000-']);
  assert.deepEqual(place.clock.pauses, [1000, 2000]);
  await assertWhole(place, folder);
});

test('a download that is given up leaves what came, and the next goes on there', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/name', files: modelFiles });
  const options = cutAt(place, 'model.safetensors', [70_000]);
  place.hub.fail(STORE, { status: 503 }, 4);
  await assert.rejects(place.open().resolve('model', 'hub:owner/name', options), hubRefuses('download', /status 503/));
  assert.equal(place.hub.asked(STORE).length, 5);
  const path = join(blobsOf(place), PARTIAL);
  const before = (await stat(path)).size;
  assert.equal(before, 70_000);
  const controller = new AbortController();
  place.hub.fail(STORE, { hangAfter: 10_000 });
  const store = place.open();
  const aborted = store.resolve('model', 'hub:owner/name', {
    signal: controller.signal,
    onProgress: ({ file, bytesDone, bytesTotal }) => {
      const isNew = file === 'model.safetensors' && bytesDone > bytesTotal - weights.length + before;
      if (isNew) controller.abort();
    },
  });
  await assert.rejects(aborted, { name: 'AbortError' });
  const after = (await stat(path)).size;
  assert.ok(after > before);
  assert.deepEqual(
    (await place.kept()).filter((path) => path.includes('refs') || path.endsWith('.safetensors')),
    [],
  );
  const { folder } = await store.resolve('model', 'hub:owner/name');
  assert.equal(rangesOf(place).at(-1), `bytes=${after}-`);
  await assertWhole(place, folder);
});

test('what the hub keeps itself is resumed only while its tag is the same', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/name', files: modelFiles });
  await place.open().resolve('model', 'hub:owner/name', cutAt(place, 'tokenizer.json', [5]));
  const asked = place.hub.requests.filter(({ method, path }) => method === 'GET' && path.endsWith('/tokenizer.json'));
  assert.deepEqual(
    asked.map(({ headers }) => headers.range),
    [undefined, 'bytes=5-'],
  );
  assert.match(String(asked[1]?.headers['if-range']), /^"[0-9a-f]{40}"$/);
  assert.ok(place.hub.requests.every(({ server, headers }) => server === 'hub' || headers['if-range'] === undefined));
});

test('a beginning that is not the beginning of this file is fetched anew', async (t) => {
  for (const [size, fill] of [
    [100_000, 'other'],
    [300_000, 'other'],
    [400_000, 'weights '],
  ] as const) {
    const place = await makeHubPlace(t);
    place.hub.add({ repo: 'owner/name', files: modelFiles });
    await mkdir(blobsOf(place), { recursive: true });
    await writeFile(join(blobsOf(place), PARTIAL), Buffer.alloc(size, fill));
    const { folder } = await place.open().resolve('model', 'hub:owner/name');
    await assertWhole(place, folder);
    assert.equal(rangesOf(place).at(-1), undefined);
  }
});

test('a beginning that is whole already is only checked', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/name', files: modelFiles });
  await mkdir(blobsOf(place), { recursive: true });
  await writeFile(join(blobsOf(place), PARTIAL), weights);
  const { folder } = await place.open().resolve('model', 'hub:owner/name');
  assert.deepEqual(rangesOf(place), []);
  await assertWhole(place, folder);
});

test('a store that does not know the range sends the whole', async (t) => {
  const wrong = { 'content-range': 'bytes 7-299999/300000' };
  for (const fault of [{ status: 416 }, { headers: wrong }]) {
    const place = await makeHubPlace(t);
    place.hub.add({ repo: 'owner/name', files: modelFiles });
    const options = cutAt(place, 'model.safetensors', [1000]);
    place.hub.fail(STORE, fault);
    const { folder } = await place.open().resolve('model', 'hub:owner/name', options);
    assert.deepEqual(rangesOf(place), [undefined, 'bytes=1000-', undefined]);
    await assertWhole(place, folder);
  }
});

test('other bytes than the digest says are not kept', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/name', files: modelFiles });
  place.hub.fail(STORE, { body: Buffer.alloc(weights.length, 'evil') });
  const wrong = hubRefuses('download', /model\.safetensors to have the digest [0-9a-f]{64} .* other bytes came/);
  await assert.rejects(place.open().resolve('model', 'hub:owner/name'), wrong);
  place.hub.fail(/GET .*config\.json/, { body: Buffer.from('{"model_type":"t6"}') });
  const commit = place.hub.add({ repo: 'owner/other', files: modelFiles });
  const config = hubRefuses('download', /config\.json to have the digest [0-9a-f]{40} /);
  await assert.rejects(place.open().resolve('model', 'hub:owner/other'), config);
  assert.deepEqual(
    (await place.kept()).filter((path) => path.includes('incomplete')),
    [],
  );
  const { folder } = await place.open().resolve('model', 'hub:owner/name');
  await assertWhole(place, folder);
  assert.equal((await place.open().resolve('model', 'hub:owner/other')).commit, commit);
});

test('a file that is another one at the second request is not kept', async (t) => {
  const other = Buffer.from('{"version":"2.0"}');
  for (const fault of [{ body: other.subarray(5) }, { headers: { etag: '"changed"' }, body: other }]) {
    const place = await makeHubPlace(t);
    place.hub.add({ repo: 'owner/name', files: modelFiles });
    const options = cutAt(place, 'tokenizer.json', [5]);
    place.hub.fail(/GET .*tokenizer\.json/, fault);
    const wrong = hubRefuses('download', /tokenizer\.json to have the digest/);
    await assert.rejects(place.open().resolve('model', 'hub:owner/name', options), wrong);
    assert.deepEqual(
      (await place.kept()).filter((path) => /tokenizer\.json$|incomplete/.test(path)),
      [],
    );
    const { files } = await place.open().resolve('model', 'hub:owner/name');
    assert.ok(files.includes('tokenizer.json'));
  }
});

test('more bytes than were announced end the download', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/name', files: modelFiles });
  place.hub.fail(STORE, { headers: { 'content-length': '900000' }, body: Buffer.alloc(900_000, 'weights ') });
  const more = hubRefuses('download', /model\.safetensors to have 300000 bytes as the hub says, more came/);
  await assert.rejects(place.open().resolve('model', 'hub:owner/name'), more);
  const { folder } = await place.open().resolve('model', 'hub:owner/name');
  await assertWhole(place, folder);
});

test('silence ends a request, before the answer and within it', async (t) => {
  for (const hangAfter of [0, 1000]) {
    const place = await makeHubPlace(t);
    place.hub.add({ repo: 'owner/name', files: modelFiles });
    place.hub.fail(STORE, { hangAfter });
    const clock = new ManualClock();
    const hung = new Promise<void>((resolve) => {
      place.hub.events.on('request', ({ server }) => server === 'store' && resolve());
    });
    const asked = place.open({}, { clock }).resolve('model', 'hub:owner/name');
    await hung;
    while (clock.alarmCount !== 1) await new Promise(setImmediate);
    await clock.advance(30_000);
    while (clock.alarmCount !== 1) await new Promise(setImmediate);
    await clock.advance(1000);
    const { folder } = await asked;
    await assertWhole(place, folder);
  }
});
