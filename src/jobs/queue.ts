/**
 * Durable jobs on pg-boss: a job names a run, and the run's own rows say how far it is. A job belongs to the
 * process that fetched it as long as that says so again and again (a lease): of a process that ends, another takes it.
 * pg-boss 10, the last for Node 20, has no such heartbeat; its expiry counts from `started_on`, which is moved on here.
 */
import { randomUUID } from 'node:crypto';
import PgBoss from 'pg-boss';
import type { Clock } from '../runtime/engine/clock.ts';
import { CHANNEL, type Connection, type Database } from '../storage/database.ts';
import { JOBS_SCHEMA, lockTables } from '../storage/migrations.ts';
import type { Notifications } from './notifications.ts';

export interface Job {
  /** The id of the run. */
  readonly id: string;
  /** Aborted when the process is to stop or the job is no longer its own: leave off, do not end the run. */
  readonly signal: AbortSignal;
}

/** Resolves when the run is over, whatever came of it, or when `signal` was aborted. One that rejects is tried again. */
export type JobHandler = (job: Job) => Promise<void>;

interface JobQueueOptions {
  readonly notifications: Notifications;
  readonly clock: Clock;
  /** Names of all queues. */
  readonly queues: readonly string[];
  /** Once aborted it works no more, as if it were being closed. Default: until it is closed. */
  readonly stopping?: AbortSignal;
  /** Hears of handlers that rejected and of a database that does not answer; both are tried again. */
  readonly onError: (error: unknown) => void;
}

/** A process that has not said for so long that it has a job has none. */
const LEASE_SECONDS = 20;
const BEAT_MS = 5000;
/** A process that could not say it for so long leaves off: before others may take the job. */
const LOSS_MS = LEASE_SECONDS * 1000 - BEAT_MS;
/** Jobs come with a hint; this is for hints that got lost. */
const LOOK_MS = 5000;
/** After this long a job whose handler rejected is tried again. */
const RETRY_SECONDS = 30;
/** Runs are taken up however often processes end; what never gets on is for the run's own count to end. */
const MOST_TRIES = 1_000_000;
/** pg-boss throws jobs away that have waited longer. */
const RETENTION_DAYS = 3650;

interface JobKey {
  readonly id: string;
  /** Id of the run. */
  readonly run: string;
}

interface Fetched {
  readonly id: string;
  readonly data: Partial<Pick<JobKey, 'run'>> | null;
  /** Counts who had the job before: what tells one owner from the next. */
  readonly retryCount: number;
}

export class JobQueue {
  private readonly closing = new AbortController();
  private readonly stopping: AbortSignal;
  private readonly loops: Promise<void>[] = [];
  private cancelUpkeep: () => void = () => {};
  private upkeep: Promise<void> = Promise.resolve();

  private constructor(
    private readonly database: Database,
    private readonly boss: PgBoss,
    private readonly options: JobQueueOptions,
  ) {
    const { signal } = this.closing;
    this.stopping = options.stopping === undefined ? signal : AbortSignal.any([signal, options.stopping]);
  }

  /** Opens the queues. In an embedded database, whatever was being worked on is free at once: its process is gone. */
  static async open(database: Database, options: JobQueueOptions): Promise<JobQueue> {
    const boss = bossOn(database);
    boss.on('error', options.onError);
    await boss.start();
    await database.transaction(async (connection) => {
      // each has the table of queues when it waits for the other's row, and needs it alone to go on: a deadlock
      await lockTables(connection);
      for (const name of options.queues) await bossOn(connection).createQueue(name);
    });
    const queue = new JobQueue(database, boss, options);
    if (database.isEmbedded) await queue.freeAll();
    queue.keepUp();
    return queue;
  }

  /** Puts a run in the queue when the transaction of `connection` commits. One that is in it stays as it is. */
  async send(connection: Connection, name: string, id: string): Promise<void> {
    await this.put(connection, name, { id, run: id });
  }

  /** As `send`, for a run whose former job is done, or is about to be. */
  async sendAgain(connection: Connection, name: string, id: string): Promise<void> {
    await this.put(connection, name, { id: randomUUID(), run: id });
  }

  /** Works on the jobs of a queue, one after the other, until the queue is closed. */
  work(name: string, handler: JobHandler): void {
    this.loops.push(this.loop(name, handler));
  }

  /** Stops working: handlers are told to leave off, their jobs are free at once. */
  async close(): Promise<void> {
    this.closing.abort();
    this.cancelUpkeep();
    await Promise.all([...this.loops, this.upkeep]);
    await this.boss.stop({ graceful: false, close: false });
  }

  private async put(connection: Connection, name: string, { id, run }: JobKey): Promise<void> {
    const lease = { expireInSeconds: LEASE_SECONDS, retryLimit: MOST_TRIES, retentionDays: RETENTION_DAYS };
    await this.boss.send(name, { run }, { id, db: executorOn(connection), ...lease });
    await connection.query('select pg_notify($1, $2)', [CHANNEL, topicOf(name)]);
  }

  private async loop(name: string, handler: JobHandler): Promise<void> {
    let hinted = true;
    let wake: () => void = () => {};
    const hint = (): void => {
      hinted = true;
      wake();
    };
    const unsubscribe = this.options.notifications.subscribe(topicOf(name), hint);
    this.stopping.addEventListener('abort', hint);
    while (!this.stopping.aborted) {
      hinted = false;
      const result = await this.workOnce(name, handler);
      if (result === 'worked' || hinted) continue;
      await new Promise<void>((resolve) => {
        const cancel = this.options.clock.after(LOOK_MS, resolve);
        wake = () => {
          cancel();
          resolve();
        };
      });
    }
    unsubscribe();
  }

  private async workOnce(name: string, handler: JobHandler): Promise<'worked' | 'nothing' | 'failed'> {
    try {
      const [job] = await this.boss.fetch<Fetched['data'] & object>(name, { includeMetadata: true });
      if (job === undefined) return 'nothing';
      return await this.run(name, job, handler);
    } catch (error) {
      this.options.onError(error);
      return 'failed';
    }
  }

  private async run(name: string, job: Fetched, handler: JobHandler): Promise<'worked' | 'failed'> {
    const lease = new Lease(this.database, name, job, this.options);
    const signal = AbortSignal.any([this.stopping, lease.lost]);
    let failed = false;
    try {
      // jobs of earlier versions have the id of their run
      await handler({ id: job.data?.run ?? job.id, signal });
    } catch (error) {
      failed = !signal.aborted;
      if (failed) this.options.onError(error);
    } finally {
      await lease.end();
    }
    // one that was lost is ended by whoever has it now
    if (lease.lost.aborted) return 'worked';
    if (failed) await this.putBack(name, job.id);
    else if (this.stopping.aborted) await this.boss.fail(name, job.id);
    else await this.boss.complete(name, job.id);
    return failed ? 'failed' : 'worked';
  }

  /** Others go first for a while: a job that always fails holds up nobody. */
  private async putBack(name: string, id: string): Promise<void> {
    await this.boss.fail(name, id);
    await this.database.query(
      `update ${JOBS_SCHEMA}.job set start_after = now() + make_interval(secs => $3) where name = $1 and id = $2 and state = 'retry'`,
      [name, id, RETRY_SECONDS],
    );
  }

  private async freeAll(): Promise<void> {
    const { rows } = await this.database.query(`select name, id from ${JOBS_SCHEMA}.job where state = 'active'`);
    for (const { name, id } of rows) await this.boss.fail(String(name), String(id));
  }

  /** Frees jobs whose lease has run out, and throws old ones away. */
  private keepUp(): void {
    this.cancelUpkeep = this.options.clock.after(BEAT_MS, () => {
      this.upkeep = this.boss
        .maintain()
        .catch(this.options.onError)
        .then(() => {
          if (!this.closing.signal.aborted) this.keepUp();
        });
    });
  }
}

/** Says again and again that this process has the job, until it is ended or another one has it. */
class Lease {
  private readonly controller = new AbortController();
  private cancelBeat: () => void = () => {};
  private cancelLoss: () => void;
  private beating: Promise<void> = Promise.resolve();
  private ended = false;

  constructor(
    private readonly database: Database,
    private readonly name: string,
    private readonly job: Fetched,
    private readonly options: JobQueueOptions,
  ) {
    this.cancelLoss = this.loseLater(LOSS_MS);
    this.beatLater();
  }

  /** Aborted when another process has the job, or may soon. */
  get lost(): AbortSignal {
    return this.controller.signal;
  }

  async end(): Promise<void> {
    this.ended = true;
    this.cancelBeat();
    this.cancelLoss();
    await this.beating;
  }

  private loseLater(delayMs: number): () => void {
    return this.options.clock.after(delayMs, () => this.controller.abort());
  }

  private beatLater(): void {
    if (this.ended || this.lost.aborted) return;
    this.cancelBeat = this.options.clock.after(BEAT_MS, () => {
      this.beating = this.beat().then(() => this.beatLater());
    });
  }

  private async beat(): Promise<void> {
    const { clock, onError } = this.options;
    const start = clock.now();
    try {
      const { rows } = await this.database.query(
        `update ${JOBS_SCHEMA}.job set started_on = now()
         where name = $1 and id = $2 and state = 'active' and retry_count = $3 returning id`,
        [this.name, this.job.id, this.job.retryCount],
      );
      this.cancelLoss();
      if (rows.length === 0) this.controller.abort();
      else if (!this.ended) this.cancelLoss = this.loseLater(LOSS_MS - (clock.now() - start));
    } catch (error) {
      onError(error);
    }
  }
}

function bossOn(connection: Connection): PgBoss {
  return new PgBoss({ db: executorOn(connection), schema: JOBS_SCHEMA, supervise: false, schedule: false });
}

function executorOn(connection: Connection): PgBoss.Db {
  return { executeSql: (text, values) => connection.query(text, values) };
}

function topicOf(name: string): string {
  return `queue:${name}`;
}
