import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DatasetsDocument } from '../generated/operations.ts';
import { rowsOf, writeDataset } from '../support/dataset-files.ts';
import { startTestServer } from '../support/start-server.ts';
import { temporaryFolder } from '../support/tiny-model.ts';

const everyday = {
  id: 'everyday',
  name: 'Everyday',
  license:
    'Written for GistQL; the same terms as GistQL itself (UNLICENSED in package.json: no licence is granted yet)',
  splits: [
    { name: 'test', sampleCount: 16, referenceCount: 3 },
    { name: 'train', sampleCount: 48, referenceCount: 1 },
  ],
  problems: [],
};

test('datasets: what comes with GistQL and what the user has, with what is wrong in it', async (t) => {
  const root = await temporaryFolder(t);
  const server = await startTestServer(t, { GISTQL_DATASETS_DIR: root });
  assert.deepEqual((await server.data(DatasetsDocument, {})).datasets, [everyday]);
  await writeDataset(root, 'mine', {
    'dev.jsonl': '{"dialogue":"a"',
    'test.jsonl': rowsOf(7, 2),
    'dataset.json': '{"license":"CC0"}',
  });
  assert.deepEqual((await server.data(DatasetsDocument, {})).datasets, [
    everyday,
    {
      id: 'mine',
      name: 'mine',
      license: 'CC0',
      splits: [{ name: 'test', sampleCount: 7, referenceCount: 2 }],
      problems: ['mine/dev.jsonl, line 1: expected JSON, it does not parse.'],
    },
  ]);
});
