/** Which public code each refusal of the hub has. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RuntimeError } from '../../src/runtime/errors.ts';
import { findHubFolder, HubSources } from '../../src/runtime/hub-sources.ts';
import type { HubKind } from '../../src/storage/hub/hub-source.ts';
import { makeHubPlace, modelFiles } from '../support/hub-place.ts';
import { refuses } from '../support/refuses.ts';

function detailsOf(error: unknown): unknown {
  assert.ok(error instanceof RuntimeError);
  return error.details;
}

test('a source of the hub becomes one that names the same files for ever; others stay', async (t) => {
  const place = await makeHubPlace(t);
  const commit = place.hub.add({ repo: 'owner/name', files: modelFiles });
  const sources = new HubSources(place.open(), { stopping: new AbortController().signal, onNotice: () => {} });
  const source = await sources.fetch('model', 'hub:owner/name');
  assert.equal(source, `hub:owner/name@${commit}`);
  assert.equal((await findHubFolder(place.cacheDir, 'model', source)).commit, commit);
  assert.equal(await sources.fetch('model', 'dir:name'), 'dir:name');
  const away = refuses(
    'DOWNLOAD_FAILED',
    /hub:owner\/other in the cache\. Nothing of .* gistql pull hub:owner\/other$/,
  );
  await assert.rejects(findHubFolder(place.cacheDir, 'model', 'hub:owner/other'), away);
});

test('every refusal has its code, and says which argument it is about', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/name', files: modelFiles });
  place.hub.add({ repo: 'owner/gated', files: modelFiles, isGated: true });
  place.hub.add({ repo: 'owner/pickle', files: { 'config.json': '{}', 'pytorch_model.bin': 'x' } });
  place.hub.add({ type: 'dataset', repo: 'owner/empty', files: { 'x.parquet': 'x' } });
  const sources = new HubSources(place.open(), { stopping: new AbortController().signal, onNotice: () => {} });
  const refused = async (kind: HubKind, source: string, code: RuntimeError['code'], message: RegExp) => {
    const error: unknown = await sources.fetch(kind, source).catch((cause: unknown) => cause);
    refuses(code, message)(error);
    return detailsOf(error);
  };
  const source = { argument: 'source' };
  assert.deepEqual(await refused('model', 'hub:owner', 'BAD_USER_INPUT', /hub:OWNER\/NAME/), source);
  assert.deepEqual(await refused('dataset', 'hub:a/../b', 'BAD_USER_INPUT', /hub:OWNER/), { argument: 'dataset' });
  assert.deepEqual(await refused('model', 'hub:owner/none', 'NOT_FOUND', /there is no owner\/none/), source);
  assert.deepEqual(await refused('model', 'hub:owner/gated', 'ACCESS_DENIED', /Accept its terms/), source);
  assert.deepEqual(await refused('model', 'hub:owner/pickle', 'INVALID_MODEL', /the pickle pytorch_model\.bin/), {});
  assert.deepEqual(await refused('adapter', 'hub:owner/name', 'INVALID_ADAPTER', /adapter_config\.json/), {});
  assert.deepEqual(await refused('dataset', 'hub:owner/empty', 'INVALID_DATASET', /SPLIT\.jsonl/), {});
  place.hub.fail(/GET \/api/, { status: 429, headers: { 'retry-after': '9' } }, 9);
  assert.deepEqual(await refused('model', 'hub:owner/name', 'DOWNLOAD_FAILED', /status 429/), { retryAfterMs: 9000 });
});

test('a server that stops lets go of what it fetches', async (t) => {
  const place = await makeHubPlace(t);
  place.hub.add({ repo: 'owner/name', files: modelFiles });
  place.hub.fail(/store GET/, { hangAfter: 0 });
  const stopping = new AbortController();
  place.hub.events.on('request', ({ server }) => server === 'store' && stopping.abort());
  const sources = new HubSources(place.open(), { stopping: stopping.signal, onNotice: () => {} });
  await assert.rejects(sources.fetch('model', 'hub:owner/name'), refuses('OVERLOADED', /the server is stopping/));
});
