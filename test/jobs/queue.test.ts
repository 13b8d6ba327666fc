/** A job is worked on by one process at a time, until it is done, whatever processes end meanwhile. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { TestContext } from 'node:test';
import { Notifications } from '../../src/jobs/notifications.ts';
import { type Job, JobQueue } from '../../src/jobs/queue.ts';
import type { Database } from '../../src/storage/database.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { settle } from '../support/settle.ts';
import { databaseTest } from '../support/test-database.ts';

const NAME = 'evaluation';
const BEAT_MS = 5000;

interface Work {
  readonly job: Job;
  readonly end: (error?: Error) => void;
}

/** A process that works on jobs as the test says. */
class Replica {
  readonly works: Work[] = [];
  readonly errors: unknown[] = [];
  readonly clock = new ManualClock();

  private constructor(
    readonly database: Database,
    private readonly notifications: Notifications,
    readonly queue: JobQueue,
  ) {}

  static async open(t: TestContext, database: Database, { names = [NAME], works = true } = {}): Promise<Replica> {
    const errors: unknown[] = [];
    const clock = new ManualClock();
    const onError = (error: unknown): void => void errors.push(error);
    const notifications = await Notifications.open(database, { clock, onError });
    const queue = await JobQueue.open(database, { notifications, clock, queues: names, onError });
    const replica = Object.assign(new Replica(database, notifications, queue), { errors, clock });
    if (works) replica.work();
    t.after(() => replica.close());
    return replica;
  }

  work(): void {
    this.queue.work(NAME, (job) => {
      return new Promise((resolve, reject) => {
        this.works.push({ job, end: (error) => (error === undefined ? resolve() : reject(error)) });
        job.signal.addEventListener('abort', () => resolve());
      });
    });
  }

  send(id: string = randomUUID()): Promise<string> {
    return this.database.transaction(async (connection) => {
      await this.queue.send(connection, NAME, id);
      return id;
    });
  }

  /** The work with this number, once it has begun. */
  async at(position: number): Promise<Work> {
    await settle(() => this.works.length > position);
    const work = this.works[position];
    assert.ok(work !== undefined);
    return work;
  }

  async states(): Promise<Readonly<Record<string, unknown>>> {
    const { rows } = await this.database.query('select id, state::text from gistql_jobs.job');
    return Object.fromEntries(rows.map(({ id, state }) => [id, state]));
  }

  async reaches(id: string, state: string): Promise<void> {
    await settle(async () => (await this.states())[id] === state);
  }

  async close(): Promise<void> {
    await this.queue.close();
    await this.notifications.close();
  }
}

databaseTest(
  'jobs are worked on at once, one after the other, when their transaction commits, and each once',
  async (t, { empty }) => {
    const replica = await Replica.open(t, await empty());
    const taken = replica.database.transaction(async (connection) => {
      await replica.queue.send(connection, NAME, randomUUID());
      throw new Error('taken back');
    });
    await assert.rejects(taken, /taken back/);
    const ids = [await replica.send(), await replica.send()];
    await replica.send(ids[0]);
    for (const [position, id] of ids.entries()) {
      const { job, end } = await replica.at(position);
      assert.equal(job.id, id);
      assert.equal(replica.works.length, position + 1);
      end();
      await replica.reaches(id, 'completed');
    }
    await replica.send(ids[1]);
    assert.deepEqual(replica.errors, []);
    assert.equal(replica.works.length, 2);
  },
);

databaseTest('a handler that rejects is tried again later; others go first', async (t, { empty }) => {
  const replica = await Replica.open(t, await empty());
  const [failing, other] = [await replica.send(), await replica.send()];
  (await replica.at(0)).end(new Error('a fault'));
  await replica.reaches(failing, 'retry');
  await settle(() => replica.clock.alarmCount > 0);
  await replica.clock.advance(BEAT_MS);
  const second = await replica.at(1);
  assert.equal(second.job.id, other);
  second.end();
  await replica.reaches(other, 'completed');
  assert.match(String(replica.errors[0]), /a fault/);
  await replica.database.query('update gistql_jobs.job set start_after = now()');
  await settle(async () => {
    await replica.clock.advance(BEAT_MS);
    return replica.works.length === 3;
  });
  const third = await replica.at(2);
  assert.equal(third.job.id, failing);
  third.end();
  await replica.reaches(failing, 'completed');
});

databaseTest(
  'a run that is sent again has another job, also while the one before is about to end',
  async (t, { empty }) => {
    const replica = await Replica.open(t, await empty());
    const id = await replica.send();
    const first = await replica.at(0);
    await replica.send(id);
    const again = (): Promise<void> =>
      replica.database.transaction((connection) => replica.queue.sendAgain(connection, NAME, id));
    await again();
    first.end();
    const second = await replica.at(1);
    assert.equal(second.job.id, id);
    second.end();
    await settle(async () => Object.values(await replica.states()).every((state) => state === 'completed'));
    await again();
    const third = await replica.at(2);
    assert.equal(third.job.id, id);
    third.end();
    await settle(
      async () => Object.values(await replica.states()).filter((state) => state === 'completed').length === 3,
    );
    assert.equal(replica.works.length, 3);
  },
);

databaseTest('a process that stops lets go of its job, and the next one has it at once', async (t, { empty }) => {
  const database = await empty();
  const first = await Replica.open(t, database);
  const id = await first.send();
  const { job } = await first.at(0);
  await first.close();
  assert.ok(job.signal.aborted);
  assert.deepEqual(await first.states(), { [id]: 'retry' });
  const second = await Replica.open(t, database);
  const again = await second.at(0);
  assert.equal(again.job.id, id);
  again.end();
  await second.reaches(id, 'completed');
});

databaseTest(
  'a job of a process that said nothing for too long is taken by another, and it leaves off',
  async (t, { make, open, isEmbedded }) => {
    if (isEmbedded) return t.skip('an embedded database has one process');
    const place = await make();
    const silent = await Replica.open(t, await open(place));
    const id = await silent.send();
    const { job, end } = await silent.at(0);
    const other = await Replica.open(t, await open(place));
    await other.clock.advance(BEAT_MS);
    await other.database.query("update gistql_jobs.job set started_on = now() - interval '19 s'");
    await other.clock.advance(BEAT_MS);
    await silent.clock.advance(BEAT_MS);
    await settle(async () => {
      const { rows } = await other.database.query(
        "select started_on > now() - interval '10 s' as fresh from gistql_jobs.job",
      );
      return rows[0]?.fresh === true;
    });
    assert.equal(other.works.length, 0);
    assert.ok(!job.signal.aborted);
    await other.database.query("update gistql_jobs.job set started_on = now() - interval '21 s'");
    await settle(async () => {
      await other.clock.advance(BEAT_MS);
      return other.works.length === 1;
    });
    assert.equal((await other.at(0)).job.id, id);
    await settle(async () => {
      await silent.clock.advance(BEAT_MS);
      return job.signal.aborted;
    });
    end();
    await silent.close();
    assert.deepEqual(await other.states(), { [id]: 'active' });
    (await other.at(0)).end();
    await other.reaches(id, 'completed');
  },
);

databaseTest(
  'a process whose database does not answer leaves off before others may take its job',
  async (t, { make, open }) => {
    const database = await open(await make());
    const replica = await Replica.open(t, database);
    const id = await replica.send();
    const { job } = await replica.at(0);
    const query = t.mock.method(database, 'query', () => Promise.reject(new Error('no answer')));
    for (let beats = 0; beats < 3; beats++) {
      assert.ok(!job.signal.aborted, `after ${beats} beats`);
      await replica.clock.advance(BEAT_MS);
    }
    assert.ok(job.signal.aborted);
    query.mock.restore();
    assert.deepEqual(await replica.states(), { [id]: 'active' });
  },
);

databaseTest(
  'in an embedded database, what another process worked on is free at its start',
  async (t, { empty, isEmbedded }) => {
    if (!isEmbedded) return t.skip('others may live');
    const database = await empty();
    const killed = await Replica.open(t, database, { works: false });
    const id = await killed.send();
    await database.query("update gistql_jobs.job set state = 'active', started_on = now()");
    const next = await Replica.open(t, database);
    assert.equal((await next.at(0)).job.id, id);
  },
);

databaseTest('replicas share the jobs: each is worked on by one', async (t, { make, open, isEmbedded }) => {
  if (isEmbedded) return t.skip('an embedded database has one process');
  const place = await make();
  const opened = await Promise.all([open(place), open(place), open(place)]);
  const replicas = await Promise.all(opened.map((database) => Replica.open(t, database)));
  const ids: string[] = [];
  for (const replica of [...replicas, ...replicas, ...replicas, ...replicas]) ids.push(await replica.send());
  const ended = new Set<Work>();
  await settle(() => {
    const works = replicas.flatMap((replica) => replica.works);
    for (const work of works) {
      if (ended.has(work)) continue;
      ended.add(work);
      work.end();
    }
    return works.length === ids.length;
  });
  assert.deepEqual([...ended].map(({ job }) => job.id).sort(), [...ids].sort());
  for (const id of ids) await replicas[0]?.reaches(id, 'completed');
});

databaseTest('replicas that start at once on a new database all start', async (t, { make, open, isEmbedded }) => {
  if (isEmbedded) return t.skip('an embedded database has one process');
  const place = await make();
  const databases = await Promise.all(Array.from({ length: 5 }, () => open(place)));
  const names = Array.from({ length: 10 }, (_, number) => `queue-${number}`);
  await Promise.all(databases.map((database) => Replica.open(t, database, { names, works: false })));
});
