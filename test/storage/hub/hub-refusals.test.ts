/** What the hub says no to, what it is too busy for, and what is done without it. */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { HubError } from '../../../src/storage/hub/hub-error.ts';
import { hubRefuses, makeHubPlace, modelFiles } from '../../support/hub-place.ts';

const LISTING = /GET \/api/;

test('a private repository, terms that were not accepted, and a bad token', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/secret', files: modelFiles, token: 'hf_abc' });
  place.hub.add({ repo: 'owner/gated', files: modelFiles, isGated: true });
  const resolve = (repo: string, token?: string) => place.open({ token }).resolve('model', `hub:${repo}`);
  const anonymous = hubRefuses(
    'denied',
    /owner\/secret@main to be open .*status 401\)\. Check the name, or set HF_TOKEN where it is private/,
  );
  await assert.rejects(resolve('owner/secret'), anonymous);
  const wrong = hubRefuses('denied', /status 401\)\. Check the name, or set HF_TOKEN to a token that may read it/);
  await assert.rejects(resolve('owner/secret', 'hf_wrong'), (error: HubError) => {
    assert.doesNotMatch(error.message, /hf_wrong/);
    return wrong(error);
  });
  const gated = hubRefuses('denied', /status 403\)\. Accept its terms at http:\S+\/owner\/gated and set HF_TOKEN/);
  await assert.rejects(resolve('owner/gated'), gated);
  const asked = place.hub.requests.length;
  for (const token of ['hf abc', 'hf_abc\r\nx-header: 1', 'ä', 'x'.repeat(5000)]) {
    await assert.rejects(
      resolve('owner/secret', token),
      hubRefuses('denied', /Expected HF_TOKEN to be a token of the hub/),
    );
  }
  assert.equal(place.hub.requests.length, asked);
  assert.deepEqual(await place.kept(), []);
});

test('what is not there is told by name: repository, revision or file', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/name', files: modelFiles });
  const noRepo = hubRefuses('missing', /a model on the hub, there is no owner\/nothing/);
  await assert.rejects(place.open().resolve('model', 'hub:owner/nothing'), noRepo);
  const noDataset = hubRefuses('missing', /a dataset on the hub, there is no owner\/name/);
  await assert.rejects(place.open().resolve(undefined, 'hub:datasets/owner/name'), noDataset);
  const noRevision = hubRefuses('missing', /a revision of owner\/name, it has no "v9"/);
  await assert.rejects(place.open().resolve('model', 'hub:owner/name@v9'), noRevision);
  place.hub.fail(/HEAD .*tokenizer\.json/, { status: 404 });
  const noFile = hubRefuses('missing', /tokenizer\.json of owner\/name on the hub, there is none/);
  await assert.rejects(place.open().resolve('model', 'hub:owner/name'), noFile);
});

test('a hub that names no reason is asked which of the two is missing', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/name', files: modelFiles });
  place.hub.fail(/revision\/v9/, { status: 404 });
  await assert.rejects(place.open().resolve('model', 'hub:owner/name@v9'), hubRefuses('missing', /it has no "v9"/));
  place.hub.fail(/revision\/main/, { status: 404 });
  place.hub.fail(/models\/owner\/name$/, { status: 404 });
  await assert.rejects(
    place.open().resolve('model', 'hub:owner/name'),
    hubRefuses('missing', /there is no owner\/name/),
  );
});

test('a hub that is busy is asked again, as late as it says, and not for ever', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/name', files: modelFiles });
  place.hub.fail(LISTING, { status: 429, headers: { 'retry-after': '7' } });
  place.hub.fail(LISTING, { status: 503 });
  place.hub.fail(LISTING, { status: 429, headers: { 'retry-after': '86400' } });
  place.hub.fail(/HEAD .*safetensors/, { status: 500 });
  await place.open().resolve('model', 'hub:owner/name');
  assert.deepEqual(place.clock.pauses, [7000, 2000, 60_000, 1000]);
  const asked = place.hub.requests.length;
  place.hub.fail(LISTING, { status: 502 }, 100);
  const busy = hubRefuses(
    'download',
    /busy or broken \(status 502\)\. Try again later\. Nothing of owner\/name@v2 is in /,
  );
  await assert.rejects(place.open().resolve('model', 'hub:owner/name@v2'), (error: HubError) => {
    assert.equal(error.details.mayPass, true);
    return busy(error);
  });
  assert.equal(place.hub.requests.length, asked + 5);
});

test('other answers of the hub are no answers', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/name', files: modelFiles });
  const commit = 'f'.repeat(40);
  const cases: readonly [RegExp, object, RegExp][] = [
    [LISTING, { status: 418 }, /status 418 came/],
    [LISTING, { body: Buffer.from('<html>'), headers: { 'content-length': '6' } }, /a JSON object .*Check HF_ENDPOINT/],
    [LISTING, { body: Buffer.from('{}'), headers: { 'content-length': '2' } }, /a commit \(sha\).*Check HF_ENDPOINT/],
    [/HEAD .*safetensors/, { headers: { 'x-repo-commit': commit } }, /the commit [0-9a-f]{40} \(X-Repo-Commit\)/],
    [/HEAD .*safetensors/, { headers: { 'x-linked-etag': '"../../x"' } }, /a digest \(ETag\) for model\.safetensors/],
    [/HEAD .*safetensors/, { headers: { 'x-linked-size': '-1' } }, /a size \(Content-Length\)/],
    [/HEAD .*safetensors/, { headers: { location: 'file:///etc/passwd' } }, /send on to an address of https, another/],
    [/HEAD .*safetensors/, { headers: { location: 'http://[' } }, /send on to an address of https, another/],
  ];
  for (const [where, fault, message] of cases) {
    place.hub.fail(where, fault);
    await assert.rejects(place.open().resolve('model', 'hub:owner/name'), (error: HubError) => {
      assert.match(error.message, message);
      return error.name === 'HubError';
    });
  }
  const here = { headers: { location: '/owner/name/resolve/main/model.safetensors' } };
  place.hub.fail(/hub GET .*safetensors/, here, 10);
  const round = hubRefuses('download', /Expected 127\.0\.0\.1:\d+ to answer, it sent on 5 times before/);
  await assert.rejects(place.open().resolve('model', 'hub:owner/name'), round);
  assert.deepEqual(
    (await place.kept()).filter((path) => /safetensors|refs|incomplete/.test(path)),
    [],
  );
});

test('without a network what is here is used, and what is not is told', async (t) => {
  const place = await makeHubPlace(t);
  const commit = place.hub.add({ repo: 'owner/name', files: modelFiles });
  const nowhere = { endpoint: 'http://127.0.0.1:9' };
  const gone = hubRefuses(
    'download',
    /connection failed \(\w+.*\)\. .*Nothing of owner\/name@main is in \S+models--owner--name yet/,
  );
  await assert.rejects(place.open(nowhere).resolve('model', 'hub:owner/name'), gone);
  const { folder, files } = await place.open().resolve('model', 'hub:owner/name');
  const notices: string[] = [];
  const onNotice = (notice: string): unknown => notices.push(notice);
  const found = await place.open(nowhere).resolve('model', 'hub:owner/name', { onNotice });
  assert.equal(found.commit, commit);
  assert.match(notices.join(), /connection failed .* Uses hub:owner\/name@[0-9a-f]{40}, which is here\.$/);
  assert.ok(files.includes('config.json'));
  await rm(join(folder, 'config.json'));
  const missing = new RegExp(`Missing in ${folder}: config\\.json\\.`);
  await assert.rejects(place.open(nowhere).resolve('model', 'hub:owner/name'), hubRefuses('download', missing));
});

test('offline nothing is asked', async (t) => {
  const place = await makeHubPlace(t);
  const commit = place.hub.add({ repo: 'owner/name', files: modelFiles });
  const offline = place.open({ offline: true });
  const nothing = hubRefuses(
    'download',
    /HF_HUB_OFFLINE is set\. Nothing of owner\/name@main is in \S+models--owner--name yet\. Unset it, or fetch it where there is a network: gistql pull hub:owner\/name$/,
  );
  await assert.rejects(offline.resolve('model', 'hub:owner/name'), nothing);
  assert.deepEqual(place.hub.requests, []);
  const online = await place.open().resolve('model', 'hub:owner/name');
  const asked = place.hub.requests.length;
  assert.deepEqual(await offline.resolve('model', 'hub:owner/name'), online);
  assert.deepEqual(await offline.resolve('model', `hub:owner/name@${commit}`), online);
  await rm(join(online.folder, 'model.safetensors'));
  const gone = hubRefuses('download', new RegExp(`Missing in ${online.folder}: model\\.safetensors\\.`));
  await assert.rejects(offline.resolve('model', 'hub:owner/name'), gone);
  await assert.rejects(
    offline.resolve('adapter', 'hub:owner/name'),
    hubRefuses('invalid', /an adapter with adapter_config/),
  );
  assert.equal(place.hub.requests.length, asked);
});
