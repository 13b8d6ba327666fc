/** Every sample once and in order, whatever happens between the rows and who reads them. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { TestContext } from 'node:test';
import { evaluationEvents } from '../../src/evaluation/runs/evaluation-kind.ts';
import { EventFeed, type FeedEvent } from '../../src/jobs/event-feed.ts';
import { Notifications } from '../../src/jobs/notifications.ts';
import type { Database } from '../../src/storage/database.ts';
import type { StoredEvaluation, StoredSample } from '../../src/storage/evaluation-rows.ts';
import { EvaluationStore } from '../../src/storage/evaluation-store.ts';
import { newSample, startRun } from '../support/evaluations.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { seededNumbers } from '../support/seeded-numbers.ts';
import { settle } from '../support/settle.ts';
import { databaseTest } from '../support/test-database.ts';

type SampleEvent = FeedEvent<StoredEvaluation, StoredSample>;

const SEED = 43;
const LOOK_MS = 5000;

interface Replica {
  readonly database: Database;
  readonly store: EvaluationStore;
  readonly feed: EventFeed<StoredEvaluation, StoredSample>;
  readonly clock: ManualClock;
  readonly errors: unknown[];
  readonly notifications: Notifications;
}

async function replicaOf(t: TestContext, database: Database): Promise<Replica> {
  const clock = new ManualClock();
  const errors: unknown[] = [];
  const notifications = await Notifications.open(database, { clock, onError: (error) => errors.push(error) });
  t.after(() => notifications.close());
  const store = new EvaluationStore(database);
  return {
    database,
    store,
    clock,
    errors,
    notifications,
    feed: new EventFeed({ source: evaluationEvents(store), notifications, clock }),
  };
}

const never = (): AbortSignal => new AbortController().signal;

async function collect(events: AsyncIterable<SampleEvent>): Promise<readonly (number | string)[]> {
  const seen: (number | string)[] = [];
  for await (const event of events) seen.push(event.type === 'item' ? event.item.sequence : event.run.status);
  return seen;
}

function upTo(count: number, from = 1): readonly number[] {
  return Array.from({ length: count - from + 1 }, (_, index) => index + from);
}

async function next(events: AsyncIterator<SampleEvent>): Promise<SampleEvent> {
  const { done, value } = await events.next();
  assert.ok(done !== true, 'the feed has ended');
  return value;
}

databaseTest(
  'whoever comes early, late, or in between sees every sample once, in order, then the end',
  async (t, { empty }) => {
    const { store, feed } = await replicaOf(t, await empty());
    const id = await startRun(store, { samplesTotal: 130 });
    const random = seededNumbers(SEED);
    const followers = [collect(feed.follow(id, 0, never()))];
    for (let index = 0; index < 130; index++) {
      await store.addSample(id, newSample(index));
      if (random() < 0.2) followers.push(collect(feed.follow(id, 0, never())));
    }
    const behind = collect(feed.follow(id, 100, never()));
    await store.finish(id, {});
    followers.push(collect(feed.follow(id, 0, never())));
    assert.ok(followers.length > 10);
    for (const seen of await Promise.all(followers)) assert.deepEqual(seen, [...upTo(130), 'succeeded']);
    assert.deepEqual(await behind, [...upTo(130, 101), 'succeeded']);
    assert.deepEqual(await collect(feed.follow(id, 130, never())), ['succeeded']);
  },
);

databaseTest('a follower that leaves and comes back with its cursor misses nothing', async (t, { empty }) => {
  const { store, feed } = await replicaOf(t, await empty());
  const id = await startRun(store, { samplesTotal: 60 });
  const random = seededNumbers(SEED);
  const seen: number[] = [];
  let added = 0;
  while (seen.length < 60) {
    const leaving = new AbortController();
    const events = feed.follow(id, seen.at(-1) ?? 0, leaving.signal);
    const more = Math.min(60 - seen.length, 1 + Math.floor(random() * 8));
    for (let count = 0; count < more; count++) {
      if (added < 60 && random() < 0.9) await store.addSample(id, newSample(added++));
      if (added <= seen.length) await store.addSample(id, newSample(added++));
      const event = await next(events);
      assert.ok(event.type === 'item');
      seen.push(event.item.sequence);
    }
    if (random() < 0.5) leaving.abort();
    else await events.return();
  }
  assert.deepEqual(seen, upTo(60));
});

databaseTest(
  'a follower that reads slowly has one page in memory, and is caught up from the database',
  async (t, { empty }) => {
    const { store, feed } = await replicaOf(t, await empty());
    const id = await startRun(store, { samplesTotal: 300 });
    let rowsRead = 0;
    const read = store.samplesSince.bind(store);
    t.mock.method(store, 'samplesSince', async (...args: Parameters<typeof read>) => {
      const page = await read(...args);
      rowsRead += page?.samples.length ?? 0;
      return page;
    });
    await store.addSample(id, newSample(0));
    const slow = feed.follow(id, 0, never());
    assert.equal((await next(slow)).type, 'item');
    for (let index = 1; index < 300; index++) await store.addSample(id, newSample(index));
    await store.finish(id, {});
    assert.equal(rowsRead, 1);
    const second = await next(slow);
    assert.ok(second.type === 'item' && second.item.sequence === 2);
    assert.equal(rowsRead, 21);
    assert.deepEqual(await collect(slow), [...upTo(300, 3), 'succeeded']);
    assert.equal(rowsRead, 300);
  },
);

databaseTest('many followers at the same place look once', async (t, { empty }) => {
  const { store, feed } = await replicaOf(t, await empty());
  const id = await startRun(store, { samplesTotal: 10 });
  const reads = t.mock.method(store, 'samplesSince');
  const followers = Array.from({ length: 200 }, () => feed.follow(id, 0, never()));
  for (let index = 0; index < 10; index++) {
    const coming = followers.map(next);
    await store.addSample(id, newSample(index));
    for (const event of await Promise.all(coming)) assert.ok(event.type === 'item' && event.item.index === index);
  }
  await store.cancel(id, {});
  for (const seen of await Promise.all(followers.map(collect))) assert.deepEqual(seen, ['cancelled']);
  const callCount = reads.mock.callCount();
  assert.ok(callCount < 100, `${callCount} reads for 200 followers of 10 samples`);
});

databaseTest('a hint that gets lost is made up for by a look now and then', async (t, { empty }) => {
  const { store, feed, clock, database } = await replicaOf(t, await empty());
  const id = await startRun(store, { samplesTotal: 2 });
  const events = feed.follow(id, 0, never());
  const first = next(events);
  await store.addSample(id, newSample(0));
  await first;
  const second = next(events);
  // as a sample is stored, but without a word
  await database.query('update gistql.evaluations set samples_done = 2 where id = $1', [id]);
  await database.query(
    `insert into gistql.evaluation_samples
     select evaluation_id, 1, 2, 'other', text, reference_texts, outputs, scores from gistql.evaluation_samples where evaluation_id = $1`,
    [id],
  );
  await clock.advance(LOOK_MS);
  const event = await second;
  assert.ok(event.type === 'item' && event.item.sampleId === 'other');
  await events.return();
  assert.equal(clock.alarmCount, 0);
});

databaseTest('a run that is none is NOT_FOUND, and a follower that is aborted ends', async (t, { empty }) => {
  const { store, feed, clock } = await replicaOf(t, await empty());
  for (const id of [randomUUID(), 'none']) {
    await assert.rejects(collect(feed.follow(id, 0, never())), { code: 'NOT_FOUND' });
  }
  const id = await startRun(store);
  assert.deepEqual(await collect(feed.follow(id, 0, AbortSignal.abort())), []);
  const leaving = new AbortController();
  const waiting = collect(feed.follow(id, 0, leaving.signal));
  await store.addSample(id, newSample(0));
  leaving.abort();
  await waiting;
  assert.equal(clock.alarmCount, 0);
});

databaseTest(
  'replicas tell the samples of others, also when their listening connection was cut',
  async (t, { make, open, isEmbedded }) => {
    if (isEmbedded) return t.skip('an embedded database has one process');
    const place = await make();
    const writer = await replicaOf(t, await open(place));
    const reader = await replicaOf(t, await open(place));
    const id = await startRun(writer.store, { samplesTotal: 20 });
    const events = reader.feed.follow(id, 0, never());
    for (let index = 0; index < 10; index++) {
      const coming = next(events);
      await writer.store.addSample(id, newSample(index));
      const event = await coming;
      assert.ok(event.type === 'item' && event.item.index === index);
    }
    const lost = next(events);
    await writer.database.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where query = 'listen gistql' and pid <> pg_backend_pid()",
    );
    await settle(() => reader.errors.length > 0);
    await writer.store.addSample(id, newSample(10));
    await reader.clock.advance(1000);
    const event = await lost;
    assert.ok(event.type === 'item' && event.item.index === 10);
    const after = next(events);
    await writer.store.addSample(id, newSample(11));
    await after;
    await events.return();
  },
);
