/** Swaps under load: no request is lost, none is answered by another adapter than it asked for, or than it says. */
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

/** Which adapter a generation says it had, and what it answered. */
function answerOf({ adapters, sequences }: Told): { readonly told: string; readonly tokens: string } {
  return { told: adapters.map(({ id }) => id).join(), tokens: String(sequences[0]?.tokenIds) };
}

/** What the model may answer with: an activation counts from when it is sent, the one before until that is answered. */
class Activations {
  private readonly sent: string[] = [''];
  private settledCount = 0;

  get latest(): string {
    return this.sent.at(-1) ?? '';
  }

  async make(adapter: string, work: () => Promise<unknown>): Promise<void> {
    this.sent.push(adapter);
    await work();
    this.settledCount = this.sent.length - 1;
  }

  /** Call it when a request is sent, and what it returns when its answer is there: who may have answered. */
  watch(): () => readonly string[] {
    const first = this.settledCount;
    return () => this.sent.slice(first);
  }
}

/** What was answered, held against what was asked. */
class Answers {
  askedCount = 0;
  readonly counts = new Map<string, number>();

  /** Who answers with which tokens: what shows, whatever is said. */
  constructor(private readonly whoAnswers: ReadonlyMap<string, string>) {}

  check({ told, tokens }: ReturnType<typeof answerOf>, allowed: readonly string[]): void {
    const who = this.whoAnswers.get(tokens);
    assert.ok(who !== undefined, `tokens of nobody: ${tokens}`);
    assert.ok(allowed.includes(who), `answered by ${who || 'none'}, asked for ${allowed.join(' or ')}`);
    assert.equal(told, who);
    this.counts.set(who, (this.counts.get(who) ?? 0) + 1);
  }
}

test(`${SWAPS} swaps under load: every request is answered, by the adapter it asked for (seed ${SEED})`, async (t) => {
  const server = await setUp(t);
  const load = (id: string) => server.data(LoadAdapterDocument, { input: { id, model: 'tiny', source: `dir:${id}` } });
  const ask = async (adapters: GenerateInput['adapters']) =>
    answerOf((await server.data(GenerateDocument, { input: { prompt: PROMPT, adapters } })).generate);
  const whoAnswers = new Map([[(await ask([])).tokens, '']]);
  for (const id of ADAPTERS) {
    await load(id);
    whoAnswers.set((await ask([{ id }])).tokens, id);
  }
  assert.equal(whoAnswers.size, ADAPTERS.length + 1);

  const next = seededNumbers(SEED);
  const answers = new Answers(whoAnswers);
  const activations = new Activations();
  let swapping = true;
  const client = async (): Promise<void> => {
    while (swapping) {
      const named = next() < 0.7 ? undefined : next() < 0.5 ? 'one' : 'two';
      const allowed = activations.watch();
      answers.askedCount++;
      const answer = await ask(named === undefined ? null : [{ id: named }]);
      answers.check(answer, named === undefined ? allowed() : [named]);
    }
  };
  const streams = server.connect();
  t.after(() => streams.close());
  const listener = async (): Promise<void> => {
    while (swapping) {
      const allowed = activations.watch();
      answers.askedCount++;
      for await (const { data } of streams.subscribe(GenerationStreamDocument, { input: { prompt: PROMPT } })) {
        const event = data?.generationStream;
        if (event?.__typename === 'GenerationFinished') answers.check(answerOf(event.generation), allowed());
      }
    }
  };
  const running = Promise.all([client(), client(), client(), client(), listener(), listener()]);
  for (let swap = 0; swap < SWAPS; swap++) {
    const adapter = [...ADAPTERS, null][Math.floor(next() * 4)] ?? null;
    const input = { model: 'tiny', adapter };
    await activations.make(adapter ?? '', () => server.data(ActivateAdapterDocument, { input }));
    if (swap % 50 === 0) await reload(server, activations, load);
  }
  swapping = false;
  await running;
  const { askedCount, counts } = answers;
  assert.deepEqual([...counts.keys()].sort(), ['', ...ADAPTERS].sort());
  assert.equal(
    [...counts.values()].reduce((sum, count) => sum + count, 0),
    askedCount,
  );
  t.diagnostic(`${askedCount} requests answered: ${JSON.stringify(Object.fromEntries(counts))}`);
});

/** Unloads `three` and loads it again; with an adapter goes its being active. */
async function reload(
  server: TestServer,
  activations: Activations,
  load: (id: string) => Promise<unknown>,
): Promise<void> {
  const { latest } = activations;
  await activations.make(latest === 'three' ? '' : latest, async () => {
    assert.equal((await server.data(UnloadAdapterDocument, { id: 'three' })).unloadAdapter, true);
  });
  await load('three');
}
