/** Two servers on one PostgreSQL: one works, both tell, and the one takes over what the other leaves. */
import assert from 'node:assert/strict';
import { after, before, type TestContext, test } from 'node:test';
import pg from 'pg';
import { EVALUATION_QUEUE } from '../../src/evaluation/runs/evaluations.ts';
import { Notifications } from '../../src/jobs/notifications.ts';
import { JobQueue } from '../../src/jobs/queue.ts';
import { startWorker } from '../../src/runtime/start-worker.ts';
import { Database } from '../../src/storage/database.ts';
import type { StoredEvaluation } from '../../src/storage/evaluation-rows.ts';
import { EvaluationStore } from '../../src/storage/evaluation-store.ts';
import {
  CancelEvaluationDocument,
  EvaluationDocument,
  EvaluationsDocument,
  StartEvaluationDocument,
} from '../generated/operations.ts';
import { type Cleanup, lastFirst } from '../support/cleanup.ts';
import {
  assertWhole,
  comparable,
  decoding,
  follow,
  loadAdapters,
  makePlace,
  ResumingSubscriber,
  samplesOf,
  startRun,
  tableAtEnd,
  tableOf,
  template,
  tinyRows,
} from '../support/evaluation-server.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { PostgresServer } from '../support/postgres-server.ts';
import { ServerProcess } from '../support/server-process.ts';
import { settle } from '../support/settle.ts';
import { type PublicError, startTestServer } from '../support/start-server.ts';
import { temporaryFolder } from '../support/tiny-model.ts';

const ROWS = 150;
const LOOK_MS = 5000;
const variants = [
  { label: 'greedy', template, decoding },
  { label: 'beams', template, decoding: { ...decoding, numBeams: 2 } },
];

let postgres: PostgresServer | string;
before(async () => {
  postgres = await PostgresServer.start();
});
after(async () => {
  if (typeof postgres !== 'string') await postgres.close();
});

/** A database of the PostgreSQL of this file; undefined: the test is skipped, saying why. */
async function openPostgres(
  t: TestContext,
): Promise<{ readonly cleanups: ReturnType<typeof lastFirst>; readonly url: string } | undefined> {
  if (typeof postgres === 'string') {
    t.skip(postgres);
    return undefined;
  }
  return { cleanups: lastFirst(t), url: await postgres.createDatabase() };
}

/** Lets time pass until everything looks, and has looked: what looks sets its next alarm when it is done. */
async function look(clock: ManualClock): Promise<void> {
  const { alarmCount } = clock;
  await clock.advance(LOOK_MS);
  await settle(() => clock.alarmCount >= alarmCount);
}

test('a replica tells a run of another one live, and takes it over when that is killed', async (t) => {
  const opened = await openPostgres(t);
  if (opened === undefined) return;
  const { cleanups, url } = opened;
  const place = await makePlace(cleanups, { 'test.jsonl': tinyRows(ROWS) });
  const environment = { ...place.environment, DATABASE_URL: url, GISTQL_MAX_ROWS: '2' };
  const worker = await ServerProcess.start(cleanups, environment);
  const id = await startRun(worker, { variants });
  const clock = new ManualClock();
  const dataDir = await temporaryFolder(cleanups);
  const other = await startTestServer(cleanups, { ...environment, GISTQL_DATA_DIR: dataDir }, { clock });

  const subscriber = new ResumingSubscriber(id);
  let killed: Promise<void> | undefined;
  const following = subscriber.readOn(other, (event) => {
    if (event.cursor === '10') killed ??= worker.kill();
    return false;
  });
  await settle(() => killed !== undefined);
  await killed;
  const { evaluation } = await other.data(EvaluationDocument, { id });
  assert.equal(evaluation?.status, 'RUNNING');
  assert.ok(evaluation.samplesDone >= 10 && evaluation.samplesDone < ROWS);
  assert.equal(other.traces.length, 0, 'the other one has worked on it too');

  const client = new pg.Client(url);
  await client.connect();
  cleanups.after(() => client.end());
  const states = async () => (await client.query('select state from gistql_jobs.job')).rows.map(({ state }) => state);
  // a lease that is fresh is nobody else's
  await look(clock);
  assert.deepEqual(await states(), ['active']);
  await client.query("update gistql_jobs.job set started_on = now() - interval '1 hour'");
  await settle(async () => {
    await look(clock);
    return other.traces.length > 0;
  });
  await following;
  assertWhole(subscriber.events, ROWS);
  assert.ok(other.traces.length > 0);
  const table = await tableOf(other, id);
  const whole = await startRun(other, { variants });
  await follow(other, whole);
  assert.deepEqual(comparable(table), comparable(await tableOf(other, whole)));
  assert.deepEqual(await samplesOf(other, id, 200), await samplesOf(other, whole, 200));
  assert.equal((await other.data(EvaluationsDocument, {})).evaluations.totalCount, 2);
});

test('a server whose PostgreSQL is not there yet serves all else, and takes runs up when it is', async (t) => {
  const opened = await openPostgres(t);
  if (opened === undefined) return;
  // a database that will be made later
  const { cleanups, url: made } = opened;
  const later = made.replace(/\/\w+$/, '/later');
  const place = await makePlace(cleanups, { 'test.jsonl': tinyRows(4) });
  const clock = new ManualClock();
  const server = await startTestServer(cleanups, { ...place.environment, DATABASE_URL: later }, { clock });
  const refused = await server.ask(EvaluationsDocument, {});
  assert.equal(refused.errors[0]?.extensions.code, 'DATABASE_UNAVAILABLE');
  await settle(() => clock.alarmCount > 0);
  const client = new pg.Client(made);
  await client.connect();
  cleanups.after(() => client.end());
  await client.query('create database later');
  await clock.advance(1000);
  await settle(async () => {
    const { rows } = await client.query(
      "select 1 from pg_stat_activity where datname = 'later' and query like 'listen%'",
    );
    return rows.length > 0;
  });
  await follow(server, await startRun(server, { variants }));
});

test('a run and its followers survive a PostgreSQL that drops every connection', async (t) => {
  const opened = await openPostgres(t);
  if (opened === undefined) return;
  const { cleanups, url } = opened;
  const place = await makePlace(cleanups, { 'test.jsonl': tinyRows(ROWS) });
  const clock = new ManualClock();
  const environment = { ...place.environment, DATABASE_URL: url, GISTQL_MAX_ROWS: '2' };
  const server = await startTestServer(cleanups, environment, { clock });
  const client = new pg.Client(url);
  await client.connect();
  cleanups.after(() => client.end());
  const id = await startRun(server, { variants });
  const subscriber = new ResumingSubscriber(id);
  await subscriber.readOn(server, ({ cursor }) => cursor === '10');
  await client.query(
    'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()',
  );
  // what was running is given up and put back, or its lease ends; here no time has to pass for that
  await settle(async () => {
    await client.query("update gistql_jobs.job set started_on = now() - interval '1 hour', start_after = now()");
    await clock.advance(LOOK_MS);
    if (!subscriber.isOver) await subscriber.readOn(server, ({ cursor }) => cursor !== null);
    return Number(subscriber.cursor) > 40 || subscriber.isOver;
  });
  while (!subscriber.isOver) await subscriber.readOn(server);
  assertWhole(subscriber.events, ROWS);
  assert.equal((await tableOf(server, id)).status, 'SUCCEEDED');
});

test('a PostgreSQL that is lost is told as such, whatever is asked, and asked again when it is back', async (t) => {
  const opened = await openPostgres(t);
  if (opened === undefined) return;
  const { cleanups, url } = opened;
  const place = await makePlace(cleanups, { 'test.jsonl': tinyRows(4) });
  const clock = new ManualClock();
  const server = await startTestServer(cleanups, { ...place.environment, DATABASE_URL: url }, { clock });
  const id = await startRun(server, { variants });
  await follow(server, id);
  const { pathname } = new URL(url);
  const client = new pg.Client(url.replace(pathname, '/postgres'));
  await client.connect();
  cleanups.after(() => client.end());
  const name = pathname.slice(1);
  await client.query(`alter database ${name} allow_connections false`);
  await client.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [name]);
  const input = { dataset: 'tiny', variants, idempotencyKey: 'lost' };
  const answers = [
    await server.ask(EvaluationsDocument, {}),
    await server.ask(EvaluationDocument, { id }),
    await server.ask(StartEvaluationDocument, { input }),
    await server.ask(CancelEvaluationDocument, { id }),
  ];
  for (const { errors } of answers) {
    const { code, retryAfterMs } = errors[0]?.extensions ?? {};
    assert.deepEqual({ code, retryAfterMs }, { code: 'DATABASE_UNAVAILABLE', retryAfterMs: 1000 });
  }
  const file = await fetch(`${server.url}/evaluations/${id}/samples.jsonl`);
  assert.equal(file.status, 503);
  const { errors } = (await file.json()) as { errors: { extensions: { code: string } }[] };
  assert.equal(errors[0]?.extensions.code, 'DATABASE_UNAVAILABLE');
  await assert.rejects(
    follow(server, id),
    ([error]: readonly PublicError[]) => error?.extensions.code === 'DATABASE_UNAVAILABLE',
  );
  await client.query(`alter database ${name} allow_connections true`);
  assert.equal((await server.data(EvaluationsDocument, {})).evaluations.totalCount, 1);
});

test('a process that lacks what a run needs leaves it to others, and fails it when none has it for a day', async (t) => {
  const opened = await openPostgres(t);
  if (opened === undefined) return;
  const { cleanups, url } = opened;
  const place = await makePlace(cleanups, { 'test.jsonl': tinyRows(6) });
  const environment = { ...place.environment, DATABASE_URL: url };
  let having = await startTestServer(cleanups, environment);
  await loadAdapters(having);
  const whole = await startRun(having);
  const table = await tableAtEnd(having, whole);
  await having.close();

  const clock = new ManualClock();
  const dataDir = await temporaryFolder(cleanups);
  const lacking = await startTestServer(cleanups, { ...environment, GISTQL_DATA_DIR: dataDir }, { clock });
  const runs = await RunsAgain.open(cleanups, url, whole);
  const offerAgain = () => runs.database.query("update gistql_jobs.job set start_after = now() where state = 'retry'");
  /** A run that the server has left. */
  const left = async (): Promise<string> => {
    const id = await runs.create();
    await settle(async () => {
      const { rows } = await runs.database.query(
        "select 1 from gistql_jobs.job where id = $1 and state = 'retry' and start_after > now()",
        [id],
      );
      return rows.length > 0;
    });
    const { evaluation } = await lacking.data(EvaluationDocument, { id });
    assert.deepEqual([evaluation?.status, evaluation?.samplesDone], ['QUEUED', 0]);
    return id;
  };
  const cancelled = await left();
  const { cancelEvaluation } = await lacking.data(CancelEvaluationDocument, { id: cancelled });
  assert.equal(cancelEvaluation.status, 'CANCELLED');

  const old = await left();
  await runs.database.query("update gistql.evaluations set left_at = now() - interval '25 hours' where id = $1", [old]);
  await settle(async () => {
    await offerAgain();
    await clock.advance(LOOK_MS);
    return (await tableOf(lacking, old)).status === 'FAILED';
  });
  assert.match((await tableOf(lacking, old)).error ?? '', /Expected adapter one to be in service/);

  const moved = await left();
  having = await startTestServer(cleanups, environment);
  // the time of the one that lacks it stands still now: it would take the run again and again, and leave it
  await settle(async () => {
    await offerAgain();
    return (await tableOf(lacking, moved)).status === 'SUCCEEDED';
  });
  assert.equal(lacking.traces.length, 0);
  assert.ok(having.traces.length > 0);
  assert.deepEqual(comparable(await tableOf(having, moved)), comparable(table));
});

/** Makes runs like one that there is, without working on them. */
class RunsAgain {
  private constructor(
    readonly database: Database,
    private readonly queue: JobQueue,
    private readonly like: StoredEvaluation,
  ) {}

  static async open(t: Cleanup, url: string, id: string): Promise<RunsAgain> {
    const onError = (error: unknown): void => assert.fail(String(error));
    const clock = new ManualClock();
    const database = await Database.open({ url, folder: '', startWorker, onError });
    t.after(() => database.close());
    const notifications = await Notifications.open(database, { clock, onError });
    t.after(() => notifications.close());
    const queue = await JobQueue.open(database, { notifications, clock, queues: [EVALUATION_QUEUE], onError });
    t.after(() => queue.close());
    const like = await new EvaluationStore(database).get(id);
    assert.ok(like);
    return new RunsAgain(database, queue, like);
  }

  async create(): Promise<string> {
    const { request, signature, dataset, split, fingerprint, samplesTotal } = this.like;
    const run = { asked: null, request, signature, dataset, split, fingerprint, samplesTotal };
    const created = await new EvaluationStore(this.database).create(run, (connection, id) =>
      this.queue.send(connection, EVALUATION_QUEUE, id),
    );
    return created.run.id;
  }
}
