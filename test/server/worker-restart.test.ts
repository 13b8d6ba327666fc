/** A model's worker thread that dies is started again, and who asked meanwhile is told. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { pino } from 'pino';
import { logWorkerEvent } from '../../src/server/log-worker-event.ts';
import {
  GenerateDocument,
  GenerationStreamDocument,
  ModelDocument,
  SummarizeDocument,
  UnloadModelDocument,
} from '../generated/operations.ts';
import { firstDialogue, secondDialogue } from '../support/dialogues.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { type Answer, startTestServer, type TestServer } from '../support/start-server.ts';
import { crash, inService, nextWorker, watchWorkers } from '../support/worker-threads.ts';

const LONG = { maxNewTokens: 500, minNewTokens: 500 };

async function readiness(server: TestServer): Promise<readonly [number, string | undefined]> {
  const response = await fetch(`${server.url}/health/ready`);
  const { reason } = (await response.json()) as { reason?: string };
  return [response.status, reason];
}

/** Resolves when a step of so many rows is being made. */
async function rowsRun(server: TestServer, count: number): Promise<void> {
  while (server.traces.at(-1)?.rows.length !== count) await new Promise(setImmediate);
}

function assertRefused({ errors: [error] }: Answer<unknown>, code: string): void {
  assert.equal(error?.extensions.code, code, JSON.stringify(error));
  assert.ok((error.extensions.retryAfterMs ?? 0) >= 100, JSON.stringify(error));
}

async function tokensOf(server: TestServer) {
  const { summarize } = await server.data(SummarizeDocument, { input: { text: firstDialogue } });
  return summarize.generation.sequences.map(({ tokenIds }) => tokenIds);
}

test('a worker that dies in a generation: its requests fail by name, the server is not ready, then ready with the same tokens', async (t) => {
  const workers = watchWorkers(t);
  const clock = new ManualClock();
  const server = await startTestServer(t, {}, { clock });
  const expected = await tokensOf(server);
  const status = async () => (await server.data(ModelDocument, { id: 'gist-mini' })).model?.status;
  assert.deepEqual([await status(), await readiness(server)], ['READY', [200, undefined]]);

  const connection = server.connect();
  const events = connection.subscribe(GenerationStreamDocument, { input: { prompt: secondDialogue, decoding: LONG } });
  await events.next();
  const generating = server.ask(GenerateDocument, { input: { prompt: firstDialogue, decoding: LONG } });
  await rowsRun(server, 2);
  await crash(workers.at(-1));

  assertRefused(await generating, 'MODEL_UNAVAILABLE');
  const codes: unknown[] = [];
  try {
    for await (const { errors: told } of events) codes.push(...(told ?? []).map(({ extensions }) => extensions?.code));
  } catch (told) {
    codes.push(...(told as { extensions: { code: string } }[]).map(({ extensions }) => extensions.code));
  }
  assert.deepEqual(codes, ['MODEL_UNAVAILABLE']);
  await connection.close();
  assert.deepEqual(await readiness(server), [503, 'the default model, gist-mini, is restarting']);
  assert.equal((await fetch(`${server.url}/health/live`)).status, 200);
  assert.equal(await status(), 'RESTARTING');
  assertRefused(await server.ask(SummarizeDocument, { input: { text: firstDialogue } }), 'OVERLOADED');

  const restarted = nextWorker();
  await clock.advance(500);
  await inService(await restarted);
  assert.deepEqual([await status(), await readiness(server)], ['READY', [200, undefined]]);
  assert.deepEqual(await tokensOf(server), expected);
});

test('a model that is unloaded while its worker starts again stays unloaded', async (t) => {
  const workers = watchWorkers(t);
  const server = await startTestServer(t);
  const restarted = nextWorker();
  await crash(workers.at(-1));
  const exited = once(await restarted, 'exit');
  assert.equal((await server.data(UnloadModelDocument, { id: 'gist-mini' })).unloadModel, true);
  await exited;
  assert.deepEqual(await readiness(server), [503, 'no default model is in service']);
  assert.equal((await server.data(ModelDocument, { id: 'gist-mini' })).model, null);
});

test('a server that stops does not wait for a worker that is gone, and starts no other', async (t) => {
  const workers = watchWorkers(t);
  const server = await startTestServer(t);
  const started = workers.length;
  const generating = server.ask(GenerateDocument, { input: { prompt: firstDialogue, decoding: LONG } });
  await rowsRun(server, 1);
  const closed = server.close();
  await crash(workers.at(-1));
  assertRefused(await generating, 'MODEL_UNAVAILABLE');
  await closed;
  assert.equal(workers.length, started);
});

test('the log tells of a lost worker as an error, of a new one as information, of the last one as fatal', () => {
  const lines: { level: number; model: string; err?: { message: string } }[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const cause = new Error('crashed');
  logWorkerEvent(log, 'tiny', { type: 'ended', cause, failureCount: 1, restartInMs: 500 });
  logWorkerEvent(log, 'tiny', { type: 'restarted', startMs: 12.3 });
  logWorkerEvent(log, 'tiny', { type: 'given-up', cause, failureCount: 8 });
  assert.deepEqual(
    lines.map(({ level, model, err }) => [level, model, err?.message]),
    [
      [50, 'tiny', 'crashed'],
      [30, 'tiny', undefined],
      [60, 'tiny', 'crashed'],
    ],
  );
});
