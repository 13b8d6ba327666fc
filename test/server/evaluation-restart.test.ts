/** A run survives its server: what ends it in order, what kills it, and connections that break. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { EvaluationDocument, StartEvaluationDocument } from '../generated/operations.ts';
import { lastFirst } from '../support/cleanup.ts';
import { CuttingProxy } from '../support/cutting-proxy.ts';
import { writeDataset } from '../support/dataset-files.ts';
import {
  assertWhole,
  comparable,
  decoding,
  type EvaluationPlace,
  loadAdapters,
  makePlace,
  ResumingSubscriber,
  samplesOf,
  startRun,
  tableAtEnd,
  tableOf,
  template,
  tinyRows,
  variants,
} from '../support/evaluation-server.ts';
import { seededNumbers } from '../support/seeded-numbers.ts';
import { ServerProcess } from '../support/server-process.ts';
import { startTestServer, TestServer } from '../support/start-server.ts';
import { writeTinyAdapter } from '../support/tiny-adapter.ts';

const SEED = 53;
const ROWS = 100;
/** Enough to be there for all kills. */
const KILLED_ROWS = 240;
const KILLS = 10;
/** So that a run takes its time. */
const slowly = { GISTQL_MAX_ROWS: '2' };
const twoVariants = variants.slice(0, 2);

/** Begins a run, stops its server in order after a few samples, and starts it again. */
async function restarted(
  t: TestContext,
  change: (place: EvaluationPlace) => Promise<unknown> = async () => {},
  chosen = variants,
): Promise<{ readonly server: TestServer; readonly id: string; readonly subscriber: ResumingSubscriber }> {
  const cleanups = lastFirst(t);
  const place = await makePlace(cleanups, { 'test.jsonl': tinyRows(ROWS) });
  const first = await startTestServer(cleanups, place.environment);
  await loadAdapters(first);
  const id = await startRun(first, { variants: chosen });
  const subscriber = new ResumingSubscriber(id);
  let closed: Promise<void> | undefined;
  await subscriber.readOn(first, () => {
    closed ??= first.close();
    return false;
  });
  await closed;
  assert.ok(subscriber.events.length > 0 && !subscriber.isOver);
  await change(place);
  const server = await startTestServer(cleanups, place.environment);
  return { server, id, subscriber };
}

test('a server that stops leaves its run, and goes on with it when it starts again: the same samples, the same table', async (t) => {
  const { server, id, subscriber } = await restarted(t);
  const told = subscriber.events.length;
  await subscriber.readOn(server);
  assert.ok(told < ROWS);
  assertWhole(subscriber.events, ROWS);
  const table = await tableOf(server, id);
  const uninterrupted = await tableAtEnd(server, await startRun(server));
  assert.deepEqual(comparable(table), comparable(uninterrupted));
  assert.deepEqual(await samplesOf(server, id, 100), await samplesOf(server, uninterrupted.id, 100));
});

test('a run does not go on with other files than it began with, and says which', async (t) => {
  const end = async (change: (place: EvaluationPlace) => Promise<unknown>, chosen = variants) => {
    const { server, id, subscriber } = await restarted(t, change, chosen);
    await subscriber.readOn(server);
    const { evaluation } = await server.data(EvaluationDocument, { id });
    assert.equal(evaluation?.status, 'FAILED');
    await server.close();
    return evaluation.error ?? '';
  };
  const plain = [{ label: 'mine', adapters: [{ id: 'one' }], template, decoding }];
  assert.match(
    await end(({ datasetsDir }) => writeDataset(datasetsDir, 'tiny', { 'test.jsonl': tinyRows(ROWS, 2) }), plain),
    /^Expected .*began with \(dataset tiny\/test .*\), they have changed \(dataset tiny\/test .*Start a new run\.$/,
  );
  assert.match(
    await end(({ adaptersDir }) => writeTinyAdapter(adaptersDir, 'one', { seed: 8 }), plain),
    /^Variant "mine": Expected .*one/,
  );
});

test('killed ten times at random moments, a run ends with every sample once and the table of one that was let live', async (t) => {
  const cleanups = lastFirst(t);
  const random = seededNumbers(SEED);
  t.diagnostic(`seed ${SEED}`);
  const place = await makePlace(cleanups, { 'test.jsonl': tinyRows(KILLED_ROWS) });
  const environment = { ...place.environment, ...slowly };
  let server = await ServerProcess.start(cleanups, environment);
  await loadAdapters(server);
  const input = { dataset: 'tiny', variants: twoVariants, idempotencyKey: 'the run' };
  const { id } = (await server.data(StartEvaluationDocument, { input })).startEvaluation;
  const subscriber = new ResumingSubscriber(id);
  let scored = 0;
  for (let kills = 0; kills < KILLS; kills++) {
    // some are killed before they have scored anything again
    let left = Math.floor(random() * 16) - 2;
    if (left > 0) await subscriber.readOn(server, () => left-- <= 0);
    await server.kill();
    assert.ok(!subscriber.isOver, `the run was over before kill ${kills}`);
    server = await ServerProcess.start(cleanups, environment);
    const again = (await server.data(StartEvaluationDocument, { input })).startEvaluation;
    assert.deepEqual([again.id, again.finishedAt], [id, null]);
    assert.ok(again.samplesDone >= scored && again.samplesDone >= Number(subscriber.cursor));
    scored = again.samplesDone;
  }
  t.diagnostic(`${scored} of ${KILLED_ROWS} samples at the last start`);
  await subscriber.readOn(server);
  assertWhole(subscriber.events, KILLED_ROWS);
  const table = await tableOf(server, id);
  const whole = await tableAtEnd(server, await startRun(server, { variants: twoVariants }));
  assert.deepEqual(comparable(table), comparable(whole));
  assert.deepEqual(await samplesOf(server, id, 200), await samplesOf(server, whole.id, 200));
  await server.close();
});

test('through connections that are cut in the middle of anything, a subscriber with its cursor sees every sample once', async (t) => {
  const cleanups = lastFirst(t);
  const random = seededNumbers(SEED);
  t.diagnostic(`seed ${SEED}`);
  const place = await makePlace(cleanups, { 'test.jsonl': tinyRows(ROWS) });
  const server = await startTestServer(cleanups, place.environment);
  await loadAdapters(server);
  const proxy = await CuttingProxy.start(cleanups, server.url, () => Math.floor(random() * 40_000));
  const through = new TestServer(proxy.url, async () => {});
  const id = await startRun(server);
  const subscribers = [new ResumingSubscriber(id), new ResumingSubscriber(id), new ResumingSubscriber(id)];
  await Promise.all(
    subscribers.map(async (subscriber) => {
      while (!subscriber.isOver) await subscriber.readOn(through);
    }),
  );
  assert.ok(proxy.cutCount > 20, `${proxy.cutCount} cuts`);
  for (const { events } of subscribers) assertWhole(events, ROWS);
  assert.equal((await tableOf(server, id)).status, 'SUCCEEDED');
});
