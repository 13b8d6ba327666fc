/**
 * Evaluations, opened when they are first asked for. A database takes a second or a few to open, and many servers never
 * evaluate; but where a database is, runs may wait in it to go on.
 */
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { EventFeed } from '../../jobs/event-feed.ts';
import { Notifications } from '../../jobs/notifications.ts';
import { JobQueue } from '../../jobs/queue.ts';
import { waitFor } from '../../runtime/engine/clock.ts';
import { RuntimeError } from '../../runtime/errors.ts';
import { startWorker } from '../../runtime/start-worker.ts';
import { Database } from '../../storage/database.ts';
import { EvaluationStore } from '../../storage/evaluation-store.ts';
import { StorageError } from '../../storage/storage-error.ts';
import type { WorkTurns } from '../work.ts';
import type { EvaluationParts } from './evaluation-parts.ts';
import { EvaluationSummaries } from './evaluation-summaries.ts';
import { EVALUATION_QUEUE, Evaluations } from './evaluations.ts';
import { Evaluator } from './evaluator.ts';

export interface EvaluationDeskOptions extends EvaluationParts {
  readonly turns: WorkTurns;
  /** Undefined: embedded. */
  readonly databaseUrl: string | undefined;
  readonly dataDir: string;
  /** Rows that a model runs at once. */
  readonly maxRows: number;
  /** Requests that a model takes, interactive ones among them. */
  readonly maxQueue: number;
  /** Hears of a database that does not answer and of runs that could not be worked on; both are tried again. */
  readonly onError: (error: unknown) => void;
  /** Ends those who follow runs, and the work on them: it goes on elsewhere, or later. */
  readonly stopping: AbortSignal;
}

/** A database that did not answer is tried again after this long, then twice as long each time. */
const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 60_000;

interface Opened {
  readonly evaluations: Evaluations;
  close(): Promise<void>;
}

export class EvaluationDesk {
  private opened: Promise<Opened> | undefined;
  private readonly closing = new AbortController();

  constructor(private readonly options: EvaluationDeskOptions) {}

  /** Rejects with DATABASE_UNAVAILABLE, OVERLOADED when the server is stopping; the next call tries again. */
  async open(): Promise<Evaluations> {
    if (this.closing.signal.aborted) {
      throw new RuntimeError('OVERLOADED', 'Expected a server in service, it is stopping. Send it again elsewhere.');
    }
    this.opened ??= open(this.options).catch((error: unknown) => {
      this.opened = undefined;
      throw error instanceof StorageError
        ? new RuntimeError('DATABASE_UNAVAILABLE', error.message, {}, { cause: error })
        : error;
    });
    return (await this.opened).evaluations;
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
    await (await this.opened?.catch(() => undefined))?.close();
  }
}

async function open(options: EvaluationDeskOptions): Promise<Opened> {
  const { databaseUrl: url, dataDir: folder, onError, clock, stopping } = options;
  const database = await Database.open({ url, folder, startWorker, onError });
  const closing: (() => Promise<void>)[] = [() => database.close()];
  const close = async (): Promise<void> => {
    for (const end of closing.splice(0).reverse()) await end();
  };
  try {
    const notifications = await Notifications.open(database, { clock, onError });
    closing.push(() => notifications.close());
    const queue = await JobQueue.open(database, {
      notifications,
      clock,
      queues: [EVALUATION_QUEUE],
      stopping,
      onError,
    });
    closing.push(() => queue.close());
    const store = new EvaluationStore(database);
    const summaries = new EvaluationSummaries({ store, turns: options.turns, clock });
    const feed = new EventFeed(store, notifications, clock);
    queue.work(EVALUATION_QUEUE, new Evaluator({ ...options, store, summaries, notifications }).work);
    return { evaluations: new Evaluations({ ...options, store, queue, feed, summaries }), close };
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
