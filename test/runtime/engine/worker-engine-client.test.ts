/** A real worker thread under a registry of models, without a server. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { parseSamplingParams } from '../../../src/runtime/decoding/parse-sampling-params.ts';
import type { GenerationRequest } from '../../../src/runtime/engine/generation-request.ts';
import type { SupervisorEvent } from '../../../src/runtime/engine/supervised-engine.ts';
import type { LoraWeights } from '../../../src/runtime/lora/lora-weights.ts';
import { ModelRegistry } from '../../../src/runtime/models/model-registry.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { noAdapters } from '../../support/scripted-adapters.ts';
import { writeTinyModel } from '../../support/tiny-model.ts';
import { crash, inService, nextWorker, watchWorkers } from '../../support/worker-threads.ts';

const PARAMS = parseSamplingParams(
  { maxNewTokens: 12, numBeams: 3 },
  { defaults: {}, badWordsIds: [], drawSeed: () => 1, maxRows: 8 },
);
const REQUEST: GenerationRequest = {
  id: 'first',
  promptTokenIds: [5, 9, 7, 1],
  params: PARAMS,
  stream: false,
  adapters: [],
};

async function setUp(t: TestContext) {
  const workers = watchWorkers(t);
  const clock = new ManualClock();
  const events: SupervisorEvent[] = [];
  const { parent, name } = await writeTinyModel(t);
  const registry = new ModelRegistry({
    directories: { embedded: parent, models: parent },
    device: 'cpu',
    threadCount: 1,
    maxInputTokens: 64,
    scheduler: { maxRows: 8, prefillTokens: 512, timeSliceSteps: 512 },
    engine: { limits: { maxPending: 10, requestTimeoutMs: 60_000 } },
    adapters: noAdapters,
    onWorker: (_, event) => events.push(event),
    clock,
  });
  t.after(() => registry.close());
  const { engine } = await registry.load({ id: 'tiny', source: `dir:${name}` });
  return { workers, clock, events, registry, engine };
}

test('generations and embeddings go with their worker, and the next one answers them alike', async (t) => {
  const { workers, clock, events, engine } = await setUp(t);
  const expected = [(await engine.generate(REQUEST)).sequences, await engine.embed([[5, 9]], 'encoder')];
  const ended = crash(workers.at(-1));
  // asked before anybody here knows of the end
  const lost = [engine.generate(REQUEST), engine.embed([[5, 9]], 'encoder')];
  assert.equal(engine.pendingCount, 1);
  for (const one of lost) await assert.rejects(one, { code: 'MODEL_UNAVAILABLE' });
  assert.deepEqual([engine.status, engine.pendingCount], ['restarting', 0]);
  await assert.rejects(engine.generate(REQUEST), { code: 'OVERLOADED' });
  await ended;

  const restarted = nextWorker();
  await clock.advance(500);
  await inService(await restarted);
  assert.equal(engine.status, 'ready');
  const again = [(await engine.generate(REQUEST)).sequences, await engine.embed([[5, 9]], 'encoder')];
  assert.deepEqual(again, expected);
  assert.deepEqual(
    events.map(({ type }) => type),
    ['ended', 'restarted'],
  );
});

test('a worker that leaves unasked, without an error, is replaced too', async (t) => {
  const { workers, clock, engine } = await setUp(t);
  const left = once(workers.at(-1) as Worker, 'exit');
  workers.at(-1)?.postMessage({ type: 'close' });
  await left;
  const restarted = nextWorker();
  await clock.advance(500);
  await inService(await restarted);
  assert.equal(engine.status, 'ready');
});

test('a model that is unloaded while its worker loads lets that worker leave', async (t) => {
  const { workers, clock, events, registry } = await setUp(t);
  await crash(workers.at(-1));
  const restarted = nextWorker();
  await clock.advance(500);
  const exited = once(await restarted, 'exit');
  assert.equal(await registry.unload('tiny'), true);
  await exited;
  assert.deepEqual(
    events.map(({ type }) => type),
    ['ended'],
  );
});

/** An adapter whose factors no memory could hold: the worker finds out when it makes room for them. */
function hugeAdapter(): LoraWeights {
  const nothing = new Float32Array(new SharedArrayBuffer(0));
  const factors = ['encoder', 'decoder'].map((stack) => ({
    module: `${stack}.block.0.layer.0.SelfAttention.q`,
    rank: 2 ** 33,
    a: nothing,
    b: nothing,
    gainChange: undefined,
  }));
  return { factors, head: undefined };
}

test('memory that a worker does not get fails the requests that need it; the worker goes on with the others', async (t) => {
  const { events, engine } = await setUp(t);
  const expected = (await engine.generate(REQUEST)).sequences;
  await engine.addAdapter('huge', hugeAdapter());
  const huge = { ...REQUEST, adapters: [{ key: 'huge', weight: 1 }] };
  const asked = [
    engine.generate({ ...REQUEST, id: 'before' }),
    engine.generate({ ...huge, id: 'huge' }),
    engine.generate({ ...REQUEST, id: 'after' }),
  ] as const;
  await assert.rejects(asked[1], { code: 'INTERNAL_SERVER_ERROR', message: /Invalid typed array length|allocation/ });
  for (const one of [asked[0], asked[2]]) assert.deepEqual((await one).sequences, expected);
  assert.deepEqual([engine.status, engine.pendingCount, events], ['ready', 0, []]);
});
