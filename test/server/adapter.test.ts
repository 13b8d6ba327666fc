/** Adapters over HTTP and WebSocket: loaded, named, activated, swapped, unloaded, and there again after a restart. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  ActivateAdapterDocument,
  AdapterChangesDocument,
  AdapterDocument,
  AdaptersDocument,
  GenerateDocument,
  type GenerateInput,
  GenerationStreamDocument,
  LoadAdapterDocument,
  type LoadAdapterInput,
  LoadModelDocument,
  ModelsDocument,
  SummarizeDocument,
  UnloadAdapterDocument,
  UnloadModelDocument,
} from '../generated/operations.ts';
import { type Answer, startTestServer, type TestServer } from '../support/start-server.ts';
import { writeTinyAdapter } from '../support/tiny-adapter.ts';
import { temporaryFolder, writeTinyModel } from '../support/tiny-model.ts';

const PROMPT = 't5 t17 t9 t30';

interface Setting {
  readonly environment: Readonly<Record<string, string>>;
  readonly adaptersDir: string;
  start(changes?: Readonly<Record<string, string>>): Promise<TestServer>;
}

/** A folder with the tiny model and the adapters `one`, `two` and `zero`, which changes nothing. */
async function setUp(t: TestContext): Promise<Setting> {
  const { parent } = await writeTinyModel(t);
  const adaptersDir = await temporaryFolder(t);
  await writeTinyAdapter(adaptersDir, 'one', { seed: 1, spread: 1 });
  await writeTinyAdapter(adaptersDir, 'two', {
    seed: 2,
    spread: 1,
    rank: 2,
    targets: ['q', 'k', 'v', 'o', 'wi', 'wo'],
  });
  await writeTinyAdapter(adaptersDir, 'zero', { seed: 3, zeroB: true });
  const environment = {
    GISTQL_MODEL: 'dir:tiny',
    GISTQL_MODELS_DIR: parent,
    GISTQL_ADAPTERS_DIR: adaptersDir,
    GISTQL_DATA_DIR: await temporaryFolder(t),
  };
  return { environment, adaptersDir, start: (changes = {}) => startTestServer(t, { ...environment, ...changes }) };
}

async function load(server: TestServer, id: string, input: Partial<LoadAdapterInput> = {}) {
  const { loadAdapter } = await server.data(LoadAdapterDocument, {
    input: { id, model: 'tiny', source: `dir:${id}`, ...input },
  });
  return loadAdapter;
}

async function activate(server: TestServer, adapter: string | null): Promise<string | undefined> {
  const { activateAdapter } = await server.data(ActivateAdapterDocument, { input: { model: 'tiny', adapter } });
  return activateAdapter.activeAdapter?.id;
}

interface Generated {
  readonly tokenIds: readonly number[];
  readonly adapters: readonly string[];
}

async function generate(server: TestServer, input: Partial<GenerateInput> = {}): Promise<Generated> {
  const { generate: answer } = await server.data(GenerateDocument, { input: { prompt: PROMPT, ...input } });
  return { tokenIds: answer.sequences[0]?.tokenIds ?? [], adapters: answer.adapters.map(({ id }) => id) };
}

function assertError({ errors: [error] }: Answer<unknown>, code: string, argument?: string): void {
  assert.equal(error?.extensions.code, code, JSON.stringify(error));
  assert.equal(error.extensions.argument, argument, JSON.stringify(error));
}

test('an adapter is loaded with every field of the contract, and the model knows of it', async (t) => {
  const { adaptersDir, start } = await setUp(t);
  const server = await start();
  const adapter = await load(server, 'one', { name: 'Number one' });
  const bytes = await readFile(join(adaptersDir, 'one', 'adapter_model.safetensors'));
  const { parameterCount, parameterShare, loadedAt, report, ...others } = adapter;
  assert.deepEqual(others, {
    id: 'one',
    name: 'Number one',
    model: { id: 'tiny' },
    method: 'LORA',
    rank: 4,
    alpha: 8,
    targetModules: ['q', 'v'],
    status: 'READY',
    source: 'dir:one',
    sha256: createHash('sha256').update(bytes).digest('hex'),
    sizeBytes: bytes.length,
    requestCount: 0,
    completionTokenCount: 0,
  });
  const { models } = await server.data(ModelsDocument, {});
  const [model] = models;
  assert.equal(parameterShare, parameterCount / (model?.parameterCount ?? 0));
  assert.ok(Date.parse(loadedAt) >= Date.parse(model?.loadedAt ?? ''));
  assert.ok(report.matchedTensors.length > 0);
  assert.deepEqual([report.unmatchedTensors, report.zeroTensors], [[], []]);
  assert.deepEqual([model?.adapters, model?.activeAdapter], [[{ id: 'one' }], null]);
  await load(server, 'zero');
  const { adapters } = await server.data(AdaptersDocument, {});
  assert.deepEqual(
    adapters.map(({ id, report: { zeroTensors } }) => [id, zeroTensors.length > 0]),
    [
      ['one', false],
      ['zero', true],
    ],
  );
  assertError(await server.ask(AdaptersDocument, { model: 'none' }), 'NOT_FOUND');
  const { adapter: found } = await server.data(AdapterDocument, { id: 'one' });
  assert.deepEqual(found?.model, {
    id: 'tiny',
    activeAdapter: null,
    adapters: [
      { id: 'one', model: { id: 'tiny' } },
      { id: 'zero', model: { id: 'tiny' } },
    ],
  });
  assert.equal((await server.data(AdapterDocument, { id: 'none' })).adapter, null);
});

test('a request is answered by the adapters that it names, alone, blended, or the active one', async (t) => {
  const server = await (await setUp(t)).start();
  const base = await generate(server);
  for (const id of ['one', 'two', 'zero']) await load(server, id);
  const [one, two] = [
    await generate(server, { adapters: [{ id: 'one' }] }),
    await generate(server, { adapters: [{ id: 'two' }] }),
  ];
  assert.deepEqual([one.adapters, two.adapters], [['one'], ['two']]);
  assert.notDeepEqual(one.tokenIds, base.tokenIds);
  assert.notDeepEqual(two.tokenIds, base.tokenIds);
  assert.notDeepEqual(one.tokenIds, two.tokenIds);
  const zero = await generate(server, {
    adapters: [
      { id: 'zero', weight: 3 },
      { id: 'one', weight: 0 },
    ],
  });
  assert.deepEqual(zero, { tokenIds: base.tokenIds, adapters: ['zero', 'one'] });

  assert.equal(await activate(server, 'one'), 'one');
  assert.deepEqual(await generate(server), one);
  assert.deepEqual(await generate(server, { adapters: [] }), base);
  assert.equal(await activate(server, 'two'), 'two');
  assert.deepEqual(await generate(server), two);
  const { summarize } = await server.data(SummarizeDocument, { input: { text: PROMPT, template: 'plain' } });
  assert.deepEqual(summarize.generation.adapters, [{ id: 'two' }]);
  assert.equal(await activate(server, null), undefined);
  assert.deepEqual(await generate(server), base);
  const { adapter } = await server.data(AdapterDocument, { id: 'two' });
  assert.equal(adapter?.requestCount, 3);
});

test('what cannot be loaded, named or activated is refused by code, and the model goes on answering', async (t) => {
  const { adaptersDir, start } = await setUp(t);
  await writeTinyAdapter(adaptersDir, 'wide', { rank: 9 });
  await writeTinyAdapter(adaptersDir, 'loha', { config: { peft_type: 'LOHA' } });
  await writeTinyAdapter(adaptersDir, 'cut', {});
  await writeFile(join(adaptersDir, 'cut', 'adapter_model.safetensors'), 'x');
  const server = await start({ GISTQL_MAX_ADAPTER_RANK: '8', GISTQL_MAX_ADAPTERS: '2' });
  const base = await generate(server);
  const refuse = (input: Partial<LoadAdapterInput>) =>
    server.ask(LoadAdapterDocument, { input: { id: 'x', model: 'tiny', source: 'dir:one', ...input } });
  assertError(await refuse({ source: 'dir:none' }), 'NOT_FOUND', 'source');
  assertError(await refuse({ source: '/etc' }), 'BAD_USER_INPUT', 'source');
  assertError(await refuse({ source: 'dir:../one' }), 'BAD_USER_INPUT', 'source');
  assertError(await refuse({ source: 'dir:cut' }), 'INVALID_ADAPTER');
  assertError(await refuse({ source: 'dir:loha' }), 'INCOMPATIBLE_ADAPTER');
  assertError(await refuse({ source: 'dir:wide' }), 'INCOMPATIBLE_ADAPTER');
  assertError(await refuse({ model: 'none' }), 'NOT_FOUND', 'model');
  assertError(await refuse({ id: 'a b' }), 'BAD_USER_INPUT', 'id');
  await load(server, 'one');
  assertError(await refuse({ id: 'one' }), 'CONFLICT', 'id');
  await load(server, 'two');
  assertError(await refuse({}), 'BAD_USER_INPUT', 'id');
  const ask = (adapters: GenerateInput['adapters']) =>
    server.ask(GenerateDocument, { input: { prompt: PROMPT, adapters } });
  assertError(await ask([{ id: 'none' }]), 'NOT_FOUND', 'adapters');
  assertError(await ask([{ id: 'one' }, { id: 'one' }]), 'BAD_USER_INPUT', 'adapters');
  const wrong = await server.ask(ActivateAdapterDocument, { input: { model: 'tiny', adapter: 'none' } });
  assertError(wrong, 'NOT_FOUND', 'adapter');
  assert.equal((await server.data(UnloadAdapterDocument, { id: 'none' })).unloadAdapter, false);
  assert.deepEqual(await generate(server), base);
});

test('an adapter is unloaded when the stream that has it ends; meanwhile it is refused to others', async (t) => {
  const server = await (await setUp(t)).start();
  const base = await generate(server);
  await load(server, 'one', { activate: true });
  const connection = server.connect();
  t.after(() => connection.close());
  const decoding = { maxNewTokens: 400, minNewTokens: 400 };
  const events = connection.subscribe(GenerationStreamDocument, { input: { prompt: PROMPT, decoding } });
  await events.next();
  const unloading = server.data(UnloadAdapterDocument, { id: 'one' });
  let status: string | undefined;
  while (status !== 'DRAINING') status = (await server.data(AdapterDocument, { id: 'one' })).adapter?.status;
  const refused = await server.ask(GenerateDocument, { input: { prompt: PROMPT, adapters: [{ id: 'one' }] } });
  assertError(refused, 'CONFLICT', 'adapters');
  assert.deepEqual(await generate(server), base);
  await events.return?.();
  assert.equal((await unloading).unloadAdapter, true);
  assert.equal((await server.data(AdapterDocument, { id: 'one' })).adapter, null);
  assert.deepEqual(await generate(server), base);
});

test('what happens to adapters is told to who listens, of one model or of all, until the server stops', async (t) => {
  const server = await (await setUp(t)).start();
  await server.data(LoadModelDocument, { input: { id: 'other', source: 'dir:tiny' } });
  await load(server, 'zero', { id: 'first' });
  const connection = server.connect();
  t.after(() => connection.close());
  const events = connection.subscribe(AdapterChangesDocument, { model: 'tiny' });
  // the protocol does not say when a subscription has begun
  const begun = events.next();
  let heard = false;
  void begun.then(() => {
    heard = true;
  });
  while (!heard) {
    await activate(server, 'first');
    await activate(server, null);
  }
  await load(server, 'one', { id: 'elsewhere', model: 'other', activate: true });
  await load(server, 'one', { activate: true });
  await load(server, 'two', { activate: true });
  await server.data(UnloadAdapterDocument, { id: 'two' });
  const changes: (readonly (string | undefined)[])[] = [];
  while (changes.at(-1)?.[0] !== 'UNLOADED') {
    const { value } = await events.next();
    const { change, model, adapter } = value?.data?.adapterChanges ?? {};
    assert.equal(model?.id, 'tiny');
    if (adapter?.id !== 'first') changes.push([change, adapter?.id]);
  }
  assert.deepEqual(changes, [
    ['LOADED', 'one'],
    ['ACTIVATED', 'one'],
    ['LOADED', 'two'],
    ['ACTIVATED', 'two'],
    ['DEACTIVATED', 'two'],
    ['UNLOADED', 'two'],
  ]);
  const last = events.next();
  await server.close();
  assert.equal((await last).done, true);
});

test('after a restart the same adapters give the same tokens, brought in on demand', async (t) => {
  const { adaptersDir, start } = await setUp(t);
  const before = await start();
  for (const id of ['one', 'two']) await load(before, id);
  await activate(before, 'two');
  const blend = {
    adapters: [
      { id: 'one', weight: 0.5 },
      { id: 'two', weight: -1 },
    ],
  };
  const expected = [await generate(before), await generate(before, blend), await generate(before, { adapters: [] })];
  await before.close();

  const after = await start();
  assert.deepEqual(
    [await generate(after), await generate(after, blend), await generate(after, { adapters: [] })],
    expected,
  );
  await after.data(UnloadModelDocument, { id: 'tiny' });
  assert.deepEqual((await after.data(AdaptersDocument, {})).adapters, []);
  await after.data(LoadModelDocument, { input: { id: 'tiny', source: 'dir:tiny' } });
  assert.deepEqual(await generate(after), expected[0]);
  await after.close();

  await rm(join(adaptersDir, 'two'), { recursive: true });
  const last = await start();
  const { adapters } = await last.data(AdaptersDocument, { model: 'tiny' });
  assert.deepEqual(
    adapters.map(({ id, status }) => [id, status]),
    [
      ['one', 'READY'],
      ['two', 'FAILED'],
    ],
  );
  assertError(await last.ask(GenerateDocument, { input: { prompt: PROMPT } }), 'INVALID_ADAPTER');
  assert.deepEqual(await generate(last, { adapters: [] }), expected[2]);
});
