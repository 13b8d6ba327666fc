/** Trainings and their events. */
import { and, asc, eq, gt, gte, inArray, type SQL, sql } from 'drizzle-orm';
import { CHANNEL, type Connection, type Database } from './database.ts';
import { type Creation, type NewRun, RunStore, violatedConstraint } from './run-store.ts';
import { trainingEvents, trainings } from './tables.ts';
import type { NewPreparation, NewTrainingEvent, StoredTraining, StoredTrainingEvent } from './training-rows.ts';

export interface NewTraining extends NewRun {
  readonly outputId: string;
  readonly stepsTotal: number;
  readonly trainableParameters: number;
  readonly totalParameters: number;
  /** What was known of the model then, as JSON: it may go out of service. */
  readonly model: unknown;
}

/** taken: another training that is not over will make the same output. */
export type TrainingCreation = Creation<StoredTraining> | { readonly outcome: 'taken' };

export interface AddedEvents {
  /** Those that the run did not have. */
  readonly count: number;
  readonly cancelRequested: boolean;
}

export interface TrainingPage {
  readonly training: StoredTraining;
  readonly events: readonly StoredTrainingEvent[];
}

type TrainingValues = typeof trainings.$inferInsert;
type TrainingChange = { -readonly [Key in keyof TrainingValues]?: TrainingValues[Key] | SQL };

/** The index by which no two trainings that are not over make the same output. */
const OPEN_OUTPUTS = 'trainings_open_outputs';

export class TrainingStore extends RunStore<StoredTraining, NewTraining, TrainingValues> {
  constructor(database: Database) {
    super(database, trainings, { done: trainings.step, atStart: trainings.stepAtStart });
  }

  /** As `create`, unless the output is another's. */
  async createWithOutput(
    training: NewTraining,
    enqueue: (connection: Connection, id: string) => Promise<void>,
  ): Promise<TrainingCreation> {
    try {
      return await this.create(training, enqueue);
    } catch (error) {
      if (violatedConstraint(error) === OPEN_OUTPUTS) return { outcome: 'taken' };
      throw error;
    }
  }

  /** What the process of the run found out before its first step. */
  prepare(
    id: string,
    { stepsTotal, trainableParameters, totalParameters, warnings }: NewPreparation,
  ): Promise<StoredTraining | undefined> {
    const values = { stepsTotal, trainableParameters, totalParameters, warnings };
    return this.change(id, eq(trainings.status, 'running'), values);
  }

  /**
   * Stores those events that the run does not have yet, numbered in their order. Returns undefined, and stores nothing,
   * when the run does not run any more. The run's row is locked until all is committed, so whoever has read number n can
   * never miss a smaller one.
   */
  async addEvents(id: string, events: readonly NewTrainingEvent[]): Promise<AddedEvents | undefined> {
    return await this.database.transaction(async (connection) => {
      const { orm } = connection;
      const [run] = await orm
        .select({ eventCount: trainings.eventCount, cancelRequested: trainings.cancelRequested })
        .from(trainings)
        .where(and(eq(trainings.id, id), eq(trainings.status, 'running')))
        .for('update');
      if (run === undefined) return undefined;
      const fresh = await withoutKnown(connection, id, events);
      const added = { count: fresh.length, cancelRequested: run.cancelRequested };
      if (fresh.length === 0) return added;
      const rows = fresh.map(({ type, step, ...figures }, place) => {
        return { trainingId: id, sequence: run.eventCount + place + 1, kind: type, step, figures };
      });
      await orm.insert(trainingEvents).values(rows);
      await orm
        .update(trainings)
        .set({ ...latestOf(fresh), eventCount: run.eventCount + fresh.length })
        .where(eq(trainings.id, id));
      await orm.execute(sql`select pg_notify(${CHANNEL}, ${id})`);
      return added;
    });
  }

  /**
   * Events in the order of storing, from the one behind number `after` on, and the run as it was before they were read:
   * when it was over and there are fewer than `limit`, there will be no more. Undefined: there is no such run.
   */
  async eventsSince(id: string, after: number, limit: number): Promise<TrainingPage | undefined> {
    const training = await this.get(id);
    if (training === undefined) return undefined;
    if (training.eventCount <= after) return { training, events: [] };
    const rows = await this.database.orm
      .select()
      .from(trainingEvents)
      .where(and(eq(trainingEvents.trainingId, id), gt(trainingEvents.sequence, after)))
      .orderBy(asc(trainingEvents.sequence))
      .limit(limit);
    const events = rows.map(
      ({ kind, step, sequence, figures }) =>
        ({ type: kind, step, sequence, ...(figures as object) }) as StoredTrainingEvent,
    );
    return { training, events };
  }

  finish(id: string): Promise<StoredTraining | undefined> {
    return this.end(id, { status: 'succeeded' });
  }

  cancel(id: string): Promise<StoredTraining | undefined> {
    return this.end(id, { status: 'cancelled' });
  }

  /**
   * Lets a run go on that failed or was cancelled. Returns undefined for one that is neither, `taken` when another run
   * is making its output. `enqueue` is part of it.
   */
  async resume(
    id: string,
    enqueue: (connection: Connection) => Promise<void>,
  ): Promise<StoredTraining | 'taken' | undefined> {
    const { status } = trainings;
    const asNew = { error: null, cancelRequested: false, finishedAt: null, fruitlessStarts: 0, leftAt: null };
    try {
      return await this.change(id, inArray(status, ['failed', 'cancelled']), { status: 'queued', ...asNew }, enqueue);
    } catch (error) {
      if (violatedConstraint(error) === OPEN_OUTPUTS) return 'taken';
      throw error;
    }
  }
}

async function withoutKnown(
  { orm }: Connection,
  id: string,
  events: readonly NewTrainingEvent[],
): Promise<readonly NewTrainingEvent[]> {
  const least = Math.min(...events.map(({ step }) => step));
  const { trainingId, kind, step } = trainingEvents;
  const known = await orm
    .select({ kind, step })
    .from(trainingEvents)
    .where(and(eq(trainingId, id), gte(step, least)));
  const keys = new Set(known.map((row) => `${row.kind} ${row.step}`));
  return events.filter((event) => !keys.has(`${event.type} ${event.step}`));
}

/** What a run's row says after these events, the latest of which count. */
function latestOf(events: readonly NewTrainingEvent[]): TrainingChange {
  const change: TrainingChange = {};
  for (const event of events) {
    if (event.type === 'step') {
      const { step, epoch, loss, learningRate, tokensPerSecond } = event;
      Object.assign(change, { step, epoch, loss, learningRate, tokensPerSecond });
    } else {
      const best = Math.min(
        event.validationLoss,
        typeof change.validationLoss === 'number' ? change.validationLoss : Number.POSITIVE_INFINITY,
      );
      change.validationLoss = event.validationLoss;
      change.bestValidationLoss = sql`least(${trainings.bestValidationLoss}, ${best}::double precision)`;
    }
  }
  return change;
}
