/** Sources of the hub in the API: fetched once, the same ever after, there again without a network. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  AdapterDocument,
  EvaluationDocument,
  GenerateDocument,
  LoadAdapterDocument,
  StartTrainingDocument,
  TrainingEventsDocument,
} from '../generated/operations.ts';
import { lastFirst } from '../support/cleanup.ts';
import { follow, makePlace, startRun, tinyRows, variants } from '../support/evaluation-server.ts';
import { HubServer } from '../support/hub-server.ts';
import { startTestServer, type TestServer } from '../support/start-server.ts';
import { temporaryFolder } from '../support/tiny-model.ts';

const plain = variants.slice(0, 1);

async function setUp(t: TestContext) {
  const cleanups = lastFirst(t);
  const hub = await HubServer.start(cleanups);
  const place = await makePlace(cleanups, { 'test.jsonl': tinyRows(4) });
  const environment = { ...place.environment, HF_HOME: await temporaryFolder(cleanups), HF_ENDPOINT: hub.url };
  const start = (changes: Readonly<Record<string, string>> = {}): Promise<TestServer> =>
    startTestServer(cleanups, { ...environment, ...changes });
  return { hub, place, start };
}

async function adapterFiles(folder: string): Promise<Record<string, Buffer>> {
  const names = ['adapter_config.json', 'adapter_model.safetensors'];
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name))])));
}

async function tokensWith(server: TestServer, id: string): Promise<readonly number[] | undefined> {
  const input = { prompt: 't5 t17 t9 t30', adapters: [{ id }] };
  return (await server.data(GenerateDocument, { input })).generate.sequences[0]?.tokenIds;
}

test('an adapter of the hub answers as its folder does, and is there after a restart without a network', async (t) => {
  const { hub, place, start } = await setUp(t);
  const commit = hub.add({ repo: 'owner/one', files: await adapterFiles(join(place.adaptersDir, 'one')) });
  const server = await start();
  const input = { id: 'fetched', model: 'tiny', source: 'hub:owner/one' };
  const { loadAdapter } = await server.data(LoadAdapterDocument, { input });
  assert.deepEqual([loadAdapter.source, loadAdapter.status], [`hub:owner/one@${commit}`, 'READY']);
  await server.data(LoadAdapterDocument, { input: { id: 'folder', model: 'tiny', source: 'dir:one' } });
  const tokens = await tokensWith(server, 'fetched');
  assert.deepEqual(tokens, await tokensWith(server, 'folder'));
  await server.close();
  // the branch has moved meanwhile
  hub.add({ repo: 'owner/one', files: await adapterFiles(join(place.adaptersDir, 'two')) });
  const asked = hub.requests.length;
  const again = await start({ HF_HUB_OFFLINE: '1' });
  assert.equal((await again.data(AdapterDocument, { id: 'fetched' })).adapter?.status, 'READY');
  assert.deepEqual(await tokensWith(again, 'fetched'), tokens);
  assert.equal(hub.requests.length, asked);
});

test('what the hub refuses has a code, and the adapter that it was for leaves nothing', async (t) => {
  const { hub, start } = await setUp(t);
  hub.add({ repo: 'owner/secret', files: { 'adapter_config.json': '{}' }, token: 'another' });
  const server = await start();
  const refuse = async (input: { readonly id: string; readonly model: string; readonly source: string }) => {
    const { errors } = await server.ask(LoadAdapterDocument, { input });
    return errors.map(({ extensions: { code, argument } }) => [code, argument]);
  };
  const load = { id: 'x', model: 'tiny', source: 'hub:owner/secret' };
  assert.deepEqual(await refuse(load), [['ACCESS_DENIED', 'source']]);
  assert.deepEqual(await refuse({ ...load, source: 'hub:owner/none' }), [['NOT_FOUND', 'source']]);
  assert.deepEqual(await refuse({ ...load, source: 'hub:../none' }), [['BAD_USER_INPUT', 'source']]);
  const asked = hub.requests.length;
  assert.deepEqual(await refuse({ ...load, model: 'none' }), [['NOT_FOUND', 'model']]);
  assert.equal(hub.requests.length, asked);
  assert.equal((await server.data(AdapterDocument, { id: 'x' })).adapter, null);
});

test('a run over a dataset of the hub stays with the commit that it began with', async (t) => {
  const { hub, start } = await setUp(t);
  const rows = tinyRows(5).map((row) => `${JSON.stringify(row)}\n`);
  const commit = hub.add({ type: 'dataset', repo: 'owner/talk', files: { 'test.jsonl': rows.join('') } });
  const server = await start();
  const id = await startRun(server, { dataset: 'hub:owner/talk', variants: plain });
  await follow(server, id);
  const { evaluation } = await server.data(EvaluationDocument, { id });
  const source = `hub:datasets/owner/talk@${commit}`;
  assert.deepEqual([evaluation?.status, evaluation?.samplesDone, evaluation?.dataset.id], ['SUCCEEDED', 5, source]);
  hub.add({ type: 'dataset', repo: 'owner/talk', files: { 'test.jsonl': rows.slice(1).join('') } });
  const asked = hub.requests.length;
  await follow(server, await startRun(server, { dataset: source, variants: plain }));
  assert.equal(hub.requests.length, asked);
});

test('a training reads a dataset of the hub in a process of its own', async (t) => {
  const { hub, start } = await setUp(t);
  const rows = tinyRows(4).map((row) => `${JSON.stringify(row)}\n`);
  hub.add({ type: 'dataset', repo: 'owner/talk', files: { 'train.jsonl': rows.join('') } });
  const server = await start();
  const input = {
    ...({ model: 'tiny', method: 'LORA', outputId: 'tuned', dataset: 'hub:datasets/owner/talk' } as const),
    ...{ template: 'plain', maxSourceTokens: 32, batchSize: 2, epochs: 1 },
  };
  const { id } = (await server.data(StartTrainingDocument, { input })).startTraining;
  const connection = server.connect();
  t.after(() => connection.close());
  const ends: string[] = [];
  for await (const { data, errors } of connection.subscribe(TrainingEventsDocument, { id, after: null })) {
    assert.deepEqual(errors ?? [], []);
    if (data?.trainingEvents.__typename === 'TrainingFinished') ends.push(data.trainingEvents.training.status);
  }
  assert.deepEqual(ends, ['SUCCEEDED']);
});
