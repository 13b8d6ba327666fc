/**
 * Runs of all kinds over one database, opened when they are first asked for. A database takes a second or a few to open,
 * and many servers never use one; but where a database is, runs may wait in it to go on.
 */
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { databaseErrorOf } from '../runtime/database-errors.ts';
import { type Clock, waitFor } from '../runtime/engine/clock.ts';
import { RuntimeError } from '../runtime/errors.ts';
import { startWorker } from '../runtime/start-worker.ts';
import { Database } from '../storage/database.ts';
import { StorageError } from '../storage/storage-error.ts';
import { Notifications } from './notifications.ts';
import { type JobHandler, JobQueue } from './queue.ts';

/** What runs are kept in, told by and worked off. */
interface RunFoundation {
  readonly database: Database;
  readonly notifications: Notifications;
  readonly queue: JobQueue;
}

/** One kind of runs: what is asked of them, and how one is worked on. */
export interface RunKind<Runs> {
  /** Name of its queue. */
  readonly queue: string;
  open(foundation: RunFoundation): { readonly runs: Runs; readonly work: JobHandler };
}

export interface RunAccess<Runs> {
  /** Rejects with DATABASE_UNAVAILABLE, OVERLOADED when the server is stopping; the next call tries again. */
  open(): Promise<Runs>;
}

export interface RunDeskOptions {
  /** Undefined: embedded. */
  readonly databaseUrl: string | undefined;
  readonly dataDir: string;
  readonly clock: Clock;
  /** Hears of a database that does not answer and of runs that could not be worked on; both are tried again. */
  readonly onError: (error: unknown) => void;
  /** Ends the work on runs: it goes on elsewhere, or later. */
  readonly stopping: AbortSignal;
}

/** A database that did not answer is tried again after this long, then twice as long each time. */
const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 60_000;

/** A kind of runs whose doors are opened with the database. */
interface Door {
  readonly queue: string;
  open(foundation: RunFoundation): JobHandler;
}

type Close = () => Promise<void>;

export class RunDesk {
  private readonly doors: Door[] = [];
  private opened: Promise<Close> | undefined;
  private readonly closing = new AbortController();

  constructor(private readonly options: RunDeskOptions) {}

  /** Keeps runs of a kind; to be called before anything is opened. */
  add<Runs>({ queue, open }: RunKind<Runs>): RunAccess<Runs> {
    let runs: Runs | undefined;
    this.doors.push({
      queue,
      open: (foundation) => {
        const kind = open(foundation);
        runs = kind.runs;
        return kind.work;
      },
    });
    return {
      open: async () => {
        await this.open();
        return runs as Runs;
      },
    };
  }

  /** Opens what was used before, so that runs go on that a process left: now, or when the database is there. */
  async resume(): Promise<void> {
    const { databaseUrl, dataDir, clock, stopping, onError } = this.options;
    const leaving = AbortSignal.any([stopping, this.closing.signal]);
    if (databaseUrl === undefined && !(await exists(join(dataDir, 'database')))) return;
    for (let delayMs = FIRST_RETRY_MS; !leaving.aborted; delayMs = Math.min(2 * delayMs, LONGEST_RETRY_MS)) {
      try {
        await this.open();
        return;
      } catch (error) {
        if (leaving.aborted) return;
        onError(error);
        await waitFor(clock, delayMs, leaving);
      }
    }
  }

  /** Runs stay as they are and go on at the next start. */
  async close(): Promise<void> {
    this.closing.abort();
    const close = await this.opened?.catch(() => undefined);
    await close?.();
  }

  private async open(): Promise<void> {
    if (this.closing.signal.aborted) {
      throw new RuntimeError('OVERLOADED', 'Expected a server in service, it is stopping. Send it again elsewhere.');
    }
    this.opened ??= openAll(this.options, this.doors).catch((error: unknown) => {
      this.opened = undefined;
      if (!(error instanceof StorageError)) throw error;
      throw databaseErrorOf(error) ?? new RuntimeError('DATABASE_UNAVAILABLE', error.message, {}, { cause: error });
    });
    await this.opened;
  }
}

async function openAll(options: RunDeskOptions, doors: readonly Door[]): Promise<Close> {
  const { databaseUrl: url, dataDir: folder, onError, clock, stopping } = options;
  const database = await Database.open({ url, folder, startWorker, onError });
  const closing: Close[] = [() => database.close()];
  const close = async (): Promise<void> => {
    for (const end of closing.splice(0).reverse()) await end();
  };
  try {
    const notifications = await Notifications.open(database, { clock, onError });
    closing.push(() => notifications.close());
    const queues = doors.map(({ queue: name }) => name);
    const queue = await JobQueue.open(database, { notifications, clock, queues, stopping, onError });
    closing.push(() => queue.close());
    const works = doors.map((door) => [door.queue, door.open({ database, notifications, queue })] as const);
    for (const [name, work] of works) queue.work(name, work);
    return close;
  } catch (error) {
    await close();
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
