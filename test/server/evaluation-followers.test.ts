/** What followers cost: how often they are told scores, what a slow one holds, and what a run leaves to others. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse, print } from 'graphql';
import { WebSocket } from 'ws';
import { startWorker } from '../../src/runtime/start-worker.ts';
import { Database } from '../../src/storage/database.ts';
import { EvaluationStore } from '../../src/storage/evaluation-store.ts';
import { EvaluationDocument, EvaluationEventsDocument, SummarizeDocument } from '../generated/operations.ts';
import { lastFirst } from '../support/cleanup.ts';
import {
  assertWhole,
  eventsOf,
  follow,
  loadAdapters,
  makePlace,
  type RunEvent,
  setUp,
  startRun,
  template,
  tinyRows,
} from '../support/evaluation-server.ts';
import { newEvaluation, newSample } from '../support/evaluations.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { settle } from '../support/settle.ts';
import { startTestServer } from '../support/start-server.ts';

const ROWS = 60;
const SCORES_EVERY_MS = 500;
const STEP_MS = 50;

function countScores(events: readonly RunEvent[]): number {
  return events.filter(({ __typename }) => __typename === 'ScoresUpdated').length;
}

test('scores are told at most twice a second, and at the end', async (t) => {
  const clock = new ManualClock();
  const { server } = await setUp(t, { rows: tinyRows(ROWS), hooks: { clock } });
  const still = await follow(server, await startRun(server));
  // no time passes
  assert.equal(countScores(still), 2);
  assert.equal(still[1]?.__typename, 'ScoresUpdated');
  assert.equal(still.at(-2)?.__typename, 'ScoresUpdated');
  const connection = server.connect();
  t.after(() => connection.close());
  const moving: RunEvent[] = [];
  for await (const event of eventsOf(connection, await startRun(server))) {
    moving.push(event);
    await clock.advance(STEP_MS);
  }
  assertWhole(moving, ROWS);
  const most = Math.ceil((moving.length * STEP_MS) / SCORES_EVERY_MS) + 2;
  assert.ok(countScores(moving) > 2 && countScores(moving) <= most, `${countScores(moving)} of at most ${most}`);
});

test('who does not read holds some pages and its socket, and is caught up when it reads', async (t) => {
  const cleanups = lastFirst(t);
  const place = await makePlace(cleanups, { 'test.jsonl': tinyRows(1) });
  const samples = 1000;
  const id = await writeRun(place.dataDir, samples);
  const server = await startTestServer(cleanups, place.environment);
  let rowsRead = 0;
  const read = EvaluationStore.prototype.samplesSince;
  t.mock.method(
    EvaluationStore.prototype,
    'samplesSince',
    async function (this: EvaluationStore, ...args: Parameters<typeof read>) {
      const page = await read.apply(this, args);
      rowsRead += page?.samples.length ?? 0;
      return page;
    },
  );
  const socket = new WebSocket(`${server.url.replace(/^http/, 'ws')}/graphql`, 'graphql-transport-ws');
  cleanups.after(() => socket.terminate());
  const cursors: string[] = [];
  const over = new Promise<void>((resolve) => {
    socket.on('message', (bytes: Buffer) => {
      const message = JSON.parse(bytes.toString()) as {
        type: string;
        payload?: { data: { evaluationEvents: RunEvent } };
      };
      if (message.type === 'connection_ack') {
        const payload = { query: print(EvaluationEventsDocument), variables: { id } };
        socket.send(JSON.stringify({ id: 'slow', type: 'subscribe', payload }));
      }
      const event = message.payload?.data.evaluationEvents;
      if (event?.__typename === 'SampleScored') cursors.push(event.cursor);
      if (event?.__typename === 'SampleScored' && cursors.length === 1) socket.pause();
      if (message.type === 'complete') resolve();
    });
    socket.on('open', () => socket.send(JSON.stringify({ type: 'connection_init' })));
  });
  await settle(() => cursors.length > 0);
  // it reads no more when many questions have been answered meanwhile
  for (let calm = 0, seen = -1; calm < 30; calm++) {
    await server.data(EvaluationDocument, { id });
    if (rowsRead !== seen) calm = 0;
    seen = rowsRead;
  }
  t.diagnostic(`${rowsRead} of ${samples} rows of 30 kB were read for one who does not read`);
  assert.ok(rowsRead < samples / 2, `${rowsRead} rows`);
  socket.resume();
  await over;
  assert.deepEqual(
    cursors,
    Array.from({ length: samples }, (_, index) => `${index + 1}`),
  );
});

/** A run that is over, with samples of some 30 kB. */
async function writeRun(folder: string, samplesTotal: number): Promise<string> {
  const database = await Database.open({ folder, startWorker, onError: () => {} });
  const store = new EvaluationStore(database);
  const request = { dataset: 'tiny', variants: [{ label: 'base' }, { label: 'tuned' }] };
  const { run: evaluation } = await store.create(newEvaluation({ samplesTotal, request }), async () => {});
  await store.begin(evaluation.id);
  await store.addSample(evaluation.id, newSample(0, { text: 'a long text '.repeat(2500) }));
  await database.query(
    `insert into gistql.evaluation_samples
     select evaluation_id, number - 1, number, sample_id, text, reference_texts, outputs, scores
     from gistql.evaluation_samples, generate_series(2, $1::integer) as number`,
    [samplesTotal],
  );
  await database.query('update gistql.evaluations set samples_done = $1', [samplesTotal]);
  await store.finish(evaluation.id, { sampleCount: samplesTotal, variants: [], comparisons: [] });
  await database.close();
  return evaluation.id;
}

test('many who follow are told one event a turn of the event loop, so that they hold it no longer than one', async (t) => {
  const cleanups = lastFirst(t);
  const place = await makePlace(cleanups, { 'test.jsonl': tinyRows(1) });
  const [samples, followers] = [100, 10];
  const id = await writeRun(place.dataDir, samples);
  const server = await startTestServer(cleanups, place.environment);
  let [inThisTurn, most] = [0, 0];
  const send = WebSocket.prototype.send;
  t.mock.method(WebSocket.prototype, 'send', function (this: WebSocket, ...args: Parameters<typeof send>) {
    if (String(args[0]).includes('"type":"next"')) inThisTurn++;
    most = Math.max(most, inThisTurn);
    return send.apply(this, args);
  });
  let over = false;
  const turn = (): void => {
    inThisTurn = 0;
    if (!over) setImmediate(turn);
  };
  turn();
  const document = parse(`subscription ($id: ID!) { evaluationEvents(id: $id) { cursor } }`);
  const counts = await Promise.all(
    Array.from({ length: followers }, async () => {
      const connection = server.connect();
      let count = 0;
      for await (const { errors } of connection.subscribe(document, { id })) {
        assert.deepEqual(errors ?? [], []);
        count++;
      }
      await connection.close();
      return count;
    }),
  );
  over = true;
  assert.deepEqual(counts, new Array(followers).fill(samples + 2));
  // this test's own turn may come before or after the event's
  assert.ok(most <= 2, `${most} events in a turn`);
});

test('a request that comes while a run takes all rows is answered long before the run ends', async (t) => {
  const cleanups = lastFirst(t);
  const place = await makePlace(cleanups, { 'test.jsonl': tinyRows(40) });
  const server = await startTestServer(cleanups, { ...place.environment, GISTQL_MAX_ROWS: '4' });
  await loadAdapters(server);
  const decoding = { minNewTokens: 60, maxNewTokens: 60 };
  const one = { label: 'one', adapters: [{ id: 'one' }], template, decoding };
  const id = await startRun(server, { variants: [one, { ...one, label: 'two', adapters: [{ id: 'two' }] }] });
  const isFull = () => server.traces.at(-1)?.rows.length === 4;
  await settle(isFull);
  const before = server.traces.length;
  const short = { minNewTokens: 5, maxNewTokens: 5 };
  await server.data(SummarizeDocument, { input: { text: 't5 t17', adapters: [], template: 'plain', decoding: short } });
  const { evaluation } = await server.data(EvaluationDocument, { id });
  t.diagnostic(`${server.traces.length - before} steps, ${evaluation?.samplesDone} of 40 samples done`);
  assert.ok((evaluation?.samplesDone ?? 40) < 20);
  // it did not wait for any of the run's requests to end
  assert.ok(server.traces.length - before < 60, `${server.traces.length - before} steps`);
  await follow(server, id);
});
