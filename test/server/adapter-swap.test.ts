/** Swaps under load: no request is lost, none is answered by another adapter than it says. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import {
  ActivateAdapterDocument,
  GenerateDocument,
  type GenerateInput,
  GenerationStreamDocument,
  LoadAdapterDocument,
  UnloadAdapterDocument,
} from '../generated/operations.ts';
import { seededNumbers } from '../support/seeded-numbers.ts';
import { startTestServer, type TestServer } from '../support/start-server.ts';
import { writeTinyAdapter } from '../support/tiny-adapter.ts';
import { temporaryFolder, writeTinyModel } from '../support/tiny-model.ts';

const SEED = 41;
const SWAPS = 500;
const PROMPT = 't5 t17 t9 t30';
const ADAPTERS = ['one', 'two', 'three'];

async function setUp(t: TestContext): Promise<TestServer> {
  const { parent } = await writeTinyModel(t);
  const adaptersDir = await temporaryFolder(t);
  for (const [index, id] of ADAPTERS.entries()) await writeTinyAdapter(adaptersDir, id, { seed: index + 1, spread: 1 });
  return startTestServer(t, {
    GISTQL_MODEL: 'dir:tiny',
    GISTQL_MODELS_DIR: parent,
    GISTQL_ADAPTERS_DIR: adaptersDir,
    GISTQL_DATA_DIR: await temporaryFolder(t),
  });
}

interface Told {
  readonly adapters: readonly { readonly id: string }[];
  readonly sequences: readonly { readonly tokenIds: readonly number[] }[];
}

/** Who is said to have answered, and what. */
function answerOf({ adapters, sequences }: Told): readonly [string, readonly number[]] {
  return [adapters.map(({ id }) => id).join(), sequences[0]?.tokenIds ?? []];
}

test(`${SWAPS} swaps under load (seed ${SEED})`, async (t) => {
  const server = await setUp(t);
  const load = (id: string) => server.data(LoadAdapterDocument, { input: { id, model: 'tiny', source: `dir:${id}` } });
  const ask = async (adapters: GenerateInput['adapters']) =>
    answerOf((await server.data(GenerateDocument, { input: { prompt: PROMPT, adapters } })).generate);
  const expected = new Map([await ask([])]);
  for (const id of ADAPTERS) {
    await load(id);
    expected.set(...(await ask([{ id }])));
  }
  assert.equal(new Set([...expected.values()].map(String)).size, ADAPTERS.length + 1);

  const next = seededNumbers(SEED);
  let swapping = true;
  const answered = new Map<string, number>();
  const check = ([who, tokenIds]: readonly [string, readonly number[]]): void => {
    assert.deepEqual(tokenIds, expected.get(who), `answered by ${who || 'none'}`);
    answered.set(who, (answered.get(who) ?? 0) + 1);
  };
  const client = async (): Promise<void> => {
    while (swapping) check(await ask(next() < 0.7 ? null : [{ id: 'one' }]));
  };
  const streams = server.connect();
  t.after(() => streams.close());
  const listener = async (): Promise<void> => {
    while (swapping) {
      for await (const { data } of streams.subscribe(GenerationStreamDocument, { input: { prompt: PROMPT } })) {
        const event = data?.generationStream;
        if (event?.__typename === 'GenerationFinished') check(answerOf(event.generation));
      }
    }
  };
  const running = [client(), client(), client(), client(), listener(), listener()];
  for (let swap = 0; swap < SWAPS; swap++) {
    const adapter = [...ADAPTERS, null][Math.floor(next() * 4)] ?? null;
    await server.data(ActivateAdapterDocument, { input: { model: 'tiny', adapter } });
    if (swap % 50 !== 0) continue;
    assert.equal((await server.data(UnloadAdapterDocument, { id: 'three' })).unloadAdapter, true);
    await load('three');
  }
  swapping = false;
  await Promise.all(running);
  assert.deepEqual([...answered.keys()].sort(), [...expected.keys()].sort());
});
