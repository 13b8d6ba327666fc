/** Datasets of the hub beside those of folders. */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { DatasetDirectory, type SplitRequest } from '../../../src/runtime/datasets/dataset-directory.ts';
import { HubSources } from '../../../src/runtime/hub-sources.ts';
import { collect } from '../../support/dataset-files.ts';
import { makeHubPlace } from '../../support/hub-place.ts';
import { refuses } from '../../support/refuses.ts';

const files = {
  'dataset.json': '{"name":"Notes","license":"CC0","text":"document","references":["gist"]}',
  'test.csv': 'document,gist\na,b\nc,d\n',
  'dataset_infos.json': '{"default":{}}',
};

function ask(dataset: string, split = 'test'): SplitRequest {
  return { dataset, split, limit: null, sampleSeed: null, references: null };
}

test('a dataset of the hub has its own manifest, and an id that names its rows for ever', async (t) => {
  const place = await makeHubPlace(t);
  const commit = place.hub.add({ type: 'dataset', repo: 'owner/notes', files });
  const nowhere = join(place.cacheDir, 'none');
  const directories = { datasets: nowhere, embedded: nowhere, hubCacheDir: place.cacheDir };
  const { signal } = new AbortController();
  const sources = new HubSources(place.open(), { stopping: signal, onNotice: () => {} });
  const datasets = new DatasetDirectory(directories, signal, sources);
  const selection = await datasets.open(ask('hub:owner/notes'));
  const id = `hub:datasets/owner/notes@${commit}`;
  assert.deepEqual(selection.dataset, { id, name: 'Notes', license: 'CC0' });
  assert.deepEqual(
    (await collect(selection.samples())).map(({ text, references }) => [text, references]),
    [
      ['a', ['b']],
      ['c', ['d']],
    ],
  );
  assert.deepEqual(await datasets.survey(id), {
    splits: [{ name: 'test', sampleCount: 2, referenceCount: 1 }],
    problems: [],
  });
  const split = refuses(
    'NOT_FOUND',
    /Expected split to be one of hub:datasets\/owner\/notes@\w+'s \(test\), "dev" came/,
  );
  await assert.rejects(datasets.open(ask(id, 'dev')), split);
  // another process, which asks nobody
  const other = new DatasetDirectory(directories);
  assert.equal((await other.open(ask(id))).sha256, selection.sha256);
  await rm(place.cacheDir, { recursive: true });
  assert.deepEqual(await other.find(id), { id, name: id, license: null });
  await assert.rejects(other.survey(id), refuses('DOWNLOAD_FAILED', /in the cache\. Nothing|Expected hub:datasets/));
  // what a run began with is fetched again by its commit
  assert.equal((await datasets.open(ask(id))).sha256, selection.sha256);
});
