/** Broken adapter folders, one after the other, into a running server: it refuses or serves each, and is as it was. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  AdaptersDocument,
  GenerateDocument,
  LoadAdapterDocument,
  UnloadAdapterDocument,
} from '../generated/operations.ts';
import { GOOD_KINDS, mutate, readAdapterFiles, writeAdapterFiles } from '../support/mutated-files.ts';
import { readJsonFile } from '../support/oracle.ts';
import { seededNumbers } from '../support/seeded-numbers.ts';
import { startTestServer, type TestServer } from '../support/start-server.ts';
import { writeTinyAdapter } from '../support/tiny-adapter.ts';
import { temporaryFolder, writeTinyModel } from '../support/tiny-model.ts';

const SEED = 20_261_125;
/** Of each kind. */
const ROUNDS = 100;
const PROMPT = 't5 t17 t9 t30';
const KINDS = Object.keys(GOOD_KINDS);

interface Setting {
  readonly server: TestServer;
  readonly adaptersDir: string;
  readonly dataDir: string;
}

/** A server of the tiny model with one adapter, `kept`, that changes every matrix in every way. */
async function setUp(t: TestContext): Promise<Setting> {
  const { parent } = await writeTinyModel(t);
  const [adaptersDir, dataDir] = [await temporaryFolder(t), await temporaryFolder(t)];
  for (const [kind, options] of Object.entries(GOOD_KINDS)) await writeTinyAdapter(adaptersDir, kind, options);
  await writeTinyAdapter(adaptersDir, 'kept', { seed: 9, spread: 1, dora: true, targets: 'all-linear' });
  const server = await startTestServer(t, {
    GISTQL_MODEL: 'dir:tiny',
    GISTQL_MODELS_DIR: parent,
    GISTQL_ADAPTERS_DIR: adaptersDir,
    GISTQL_DATA_DIR: dataDir,
    GISTQL_MAX_ADAPTER_RANK: '16',
  });
  await server.data(LoadAdapterDocument, { input: { id: 'kept', model: 'tiny', source: 'dir:kept' } });
  return { server, adaptersDir, dataDir };
}

async function tokensOf(server: TestServer, ...adapters: readonly string[]): Promise<readonly number[]> {
  const input = { prompt: PROMPT, adapters: adapters.map((id) => ({ id })) };
  return (await server.data(GenerateDocument, { input })).generate.sequences[0]?.tokenIds ?? [];
}

/** Loads changed copies of one folder; what can be loaded answers a request and is unloaded. Returns the outcomes. */
async function feed({ server, adaptersDir }: Setting, kind: string, seed: number): Promise<readonly string[]> {
  const folder = join(adaptersDir, kind);
  const good = await readAdapterFiles(folder);
  const next = seededNumbers(seed);
  const outcomes: string[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await writeAdapterFiles(folder, mutate(good, next));
    const input = { id: kind, model: 'tiny', source: `dir:${kind}` };
    const { errors } = await server.ask(LoadAdapterDocument, { input });
    outcomes.push(errors[0]?.extensions.code ?? 'LOADED');
    if (errors.length > 0) continue;
    // finite numbers can be so large that nothing sensible comes out; out it comes, for this request alone
    await server.ask(GenerateDocument, { input: { prompt: PROMPT, adapters: [{ id: kind }] } });
    assert.equal((await server.data(UnloadAdapterDocument, { id: kind })).unloadAdapter, true);
  }
  return outcomes;
}

test(`${ROUNDS * KINDS.length} changed folders leave a server as it was (seed ${SEED})`, async (t) => {
  const setting = await setUp(t);
  const { server, adaptersDir, dataDir } = setting;
  const expected = [await tokensOf(server), await tokensOf(server, 'kept')];
  const files = await readdir(adaptersDir, { recursive: true });
  const registered = readJsonFile<unknown>(join(dataDir, 'adapters.json'));
  let feeding = true;
  const answering = (async () => {
    while (feeding) assert.deepEqual([await tokensOf(server), await tokensOf(server, 'kept')], expected);
  })();
  const outcomes = (await Promise.all(KINDS.map((kind, index) => feed(setting, kind, SEED + index)))).flat();
  feeding = false;
  await answering;

  const counts = new Map<string, number>();
  for (const outcome of outcomes) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  t.diagnostic(JSON.stringify(Object.fromEntries(counts)));
  assert.deepEqual([...counts.keys()].toSorted(), ['INCOMPATIBLE_ADAPTER', 'INVALID_ADAPTER', 'LOADED']);
  assert.deepEqual([await tokensOf(server), await tokensOf(server, 'kept')], expected);
  const { adapters } = await server.data(AdaptersDocument, {});
  assert.deepEqual(
    adapters.map(({ id, status }) => [id, status]),
    [['kept', 'READY']],
  );
  assert.deepEqual(await readdir(adaptersDir, { recursive: true }), files);
  assert.deepEqual(await readdir(dataDir), ['adapters.json', 'adapters.lock']);
  assert.deepEqual(readJsonFile(join(dataDir, 'adapters.json')), registered);
});
