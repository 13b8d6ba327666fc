/** Sources of the hub in the API: fetched once, the same ever after, there again without a network. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  AdapterDocument,
  EvaluationDocument,
  GenerateDocument,
  type GenerateInput,
  LoadAdapterDocument,
  LoadModelDocument,
  ModelsDocument,
  StartTrainingDocument,
} from '../generated/operations.ts';
import { lastFirst } from '../support/cleanup.ts';
import { follow, makePlace, startRun, tinyRows, variants } from '../support/evaluation-server.ts';
import { filesOf, HubServer } from '../support/hub-server.ts';
import { repositoryPath } from '../support/oracle.ts';
import { startTestServer, type TestServer } from '../support/start-server.ts';
import { temporaryFolder } from '../support/tiny-model.ts';
import { followTraining } from '../support/training-server.ts';

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

async function tokensOf(server: TestServer, choice: Partial<GenerateInput>): Promise<readonly number[] | undefined> {
  const input = { prompt: 't5 t17 t9 t30', ...choice };
  return (await server.data(GenerateDocument, { input })).generate.sequences[0]?.tokenIds;
}

function tokensWith(server: TestServer, id: string): Promise<readonly number[] | undefined> {
  return tokensOf(server, { adapters: [{ id }] });
}

test('an adapter of the hub answers as its folder does, and is there after a restart without a network', async (t) => {
  const { hub, place, start } = await setUp(t);
  const commit = hub.add({ repo: 'owner/one', files: await filesOf(join(place.adaptersDir, 'one')) });
  const server = await start();
  const input = { id: 'fetched', model: 'tiny', source: 'hub:owner/one' };
  const { loadAdapter } = await server.data(LoadAdapterDocument, { input });
  assert.deepEqual([loadAdapter.source, loadAdapter.status], [`hub:owner/one@${commit}`, 'READY']);
  await server.data(LoadAdapterDocument, { input: { id: 'folder', model: 'tiny', source: 'dir:one' } });
  const tokens = await tokensWith(server, 'fetched');
  assert.deepEqual(tokens, await tokensWith(server, 'folder'));
  await server.close();
  // the branch has moved meanwhile
  hub.add({ repo: 'owner/one', files: await filesOf(join(place.adaptersDir, 'two')) });
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

test('a model of the hub answers as the same files do from their folder', async (t) => {
  const { hub, start } = await setUp(t);
  const commit = hub.add({ repo: 'gistql/gist-mini', files: await filesOf(repositoryPath('models/gist-mini')) });
  const server = await start();
  const source = 'hub:gistql/gist-mini';
  const { loadModel } = await server.data(LoadModelDocument, { input: { id: 'fetched', source } });
  assert.deepEqual(loadModel, { id: 'fetched', isDefault: false, source: `${source}@${commit}` });
  await server.data(LoadModelDocument, { input: { id: 'embedded', source: 'embedded:gist-mini' } });
  const prompt = '#Person1#: Shall we meet at five?\n#Person2#: Six is better.';
  const tokens = await tokensOf(server, { prompt, model: 'fetched' });
  assert.ok(tokens !== undefined && tokens.length > 1);
  assert.deepEqual(tokens, await tokensOf(server, { prompt, model: 'embedded' }));
  assert.deepEqual(hub.asked(/README/), []);
});

test('of several GGUF files the one that is named is served', async (t) => {
  const { hub, start } = await setUp(t);
  const fixture = (name: string): Promise<Buffer> => readFile(repositoryPath(`test/fixtures/gguf/${name}/model.gguf`));
  const files = { 'llama.gguf': await fixture('tiny-llama'), 'qwen2.gguf': await fixture('tiny-qwen2') };
  const commit = hub.add({ repo: 'owner/many', files });
  const server = await start();
  for (const name of ['llama', 'qwen2']) {
    const source = `hub:owner/many#${name}.gguf`;
    const { loadModel } = await server.data(LoadModelDocument, { input: { id: name, source } });
    assert.equal(loadModel.source, `hub:owner/many@${commit}#${name}.gguf`);
  }
  const { models } = await server.data(ModelsDocument, {});
  const served = models.filter(({ id }) => id !== 'tiny').map(({ id, architecture }) => [id, architecture]);
  assert.deepEqual(served, [
    ['llama', 'LlamaForCausalLM'],
    ['qwen2', 'Qwen2ForCausalLM'],
  ]);
});

test('the default model may be of the hub, and needs no network when it is here', async (t) => {
  const { hub, place, start } = await setUp(t);
  const commit = hub.add({ repo: 'owner/tiny', files: await filesOf(join(place.modelsDir, 'tiny')) });
  const first = await start({ GISTQL_MODEL: 'hub:owner/tiny' });
  const { models } = await first.data(ModelsDocument, {});
  assert.deepEqual(
    models.map(({ id, source, isDefault }) => [id, source, isDefault]),
    [['tiny', `hub:owner/tiny@${commit}`, true]],
  );
  const tokens = await tokensOf(first, {});
  await first.close();
  const asked = hub.requests.length;
  const again = await start({ GISTQL_MODEL: 'hub:owner/tiny', HF_HUB_OFFLINE: '1' });
  assert.deepEqual(await tokensOf(again, {}), tokens);
  assert.equal(hub.requests.length, asked);
});

test('models that the hub refuses have codes', async (t) => {
  const { hub, start } = await setUp(t);
  hub.add({ repo: 'owner/pickle', files: { 'config.json': '{}', 'tokenizer.json': '{}', 'pytorch_model.bin': 'x' } });
  hub.add({ repo: 'owner/many', files: { 'a.gguf': 'x', 'b.gguf': 'y' } });
  hub.add({ repo: 'owner/broken', files: { 'config.json': '{', 'tokenizer.json': '{}', 'model.safetensors': 'x' } });
  const server = await start();
  const cases = [
    ['hub:owner/pickle', 'INVALID_MODEL', undefined],
    ['hub:owner/many', 'BAD_USER_INPUT', 'source'],
    ['hub:owner/broken', 'INVALID_MODEL', undefined],
    ['hub:owner/none', 'NOT_FOUND', 'source'],
    ['hub:owner', 'BAD_USER_INPUT', 'source'],
    ['hub:datasets/owner/name', 'BAD_USER_INPUT', 'source'],
  ] as const;
  for (const [source, code, argument] of cases) {
    const { errors } = await server.ask(LoadModelDocument, { input: { id: 'x', source } });
    assert.deepEqual([errors[0]?.extensions.code, errors[0]?.extensions.argument], [code, argument], source);
  }
});

test('a training reads model and dataset of the hub in a process of its own, and names the model as PEFT does', async (t) => {
  const { hub, place, start } = await setUp(t);
  const rows = tinyRows(4).map((row) => `${JSON.stringify(row)}\n`);
  hub.add({ type: 'dataset', repo: 'owner/talk', files: { 'train.jsonl': rows.join('') } });
  const commit = hub.add({ repo: 'owner/tiny', files: await filesOf(join(place.modelsDir, 'tiny')) });
  const server = await start({ GISTQL_MODEL: 'hub:owner/tiny' });
  const input = {
    ...({ model: 'tiny', method: 'LORA', outputId: 'tuned', dataset: 'hub:datasets/owner/talk' } as const),
    ...{ template: 'plain', maxSourceTokens: 32, batchSize: 2, epochs: 1 },
  };
  const { id } = (await server.data(StartTrainingDocument, { input })).startTraining;
  const finished = (await followTraining(server, id)).filter(({ __typename }) => __typename === 'TrainingFinished');
  const ends = finished.map(({ training }) => training.status);
  assert.deepEqual(ends, ['SUCCEEDED']);
  const config = JSON.parse(await readFile(join(place.adaptersDir, 'tuned', 'adapter_config.json'), 'utf8'));
  assert.deepEqual([config.base_model_name_or_path, config.revision], ['owner/tiny', commit]);
  // what was trained came into service without a warning
  const { adapter } = await server.data(AdapterDocument, { id: 'tuned' });
  assert.equal(adapter?.status, 'READY');
});
