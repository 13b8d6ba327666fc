/**
 * Evaluation runs and their scored samples. Every change is told on the database's channel as it commits, with the run's
 * id. It does not know what a run means or who works on it.
 */
import { createHash, randomUUID } from 'node:crypto';
import { and, asc, count, desc, eq, getTableColumns, gt, inArray, isNull, lt, type SQL, sql } from 'drizzle-orm';
import { CHANNEL, type Connection, type Database } from './database.ts';
import {
  type NewSample,
  type ScoreRow,
  type StoredEvaluation,
  type StoredSample,
  sampleOf,
  sampleRow,
  scoresOf,
} from './evaluation-rows.ts';
import { evaluationSamples, evaluations, storableJson } from './tables.ts';

export interface NewEvaluation {
  /** A second run of the same key is not made. Default: none. */
  readonly idempotencyKey?: string | undefined;
  /** What was asked, as JSON: what a key is compared by. */
  readonly asked: unknown;
  /** What the run is taken up again from, as JSON. */
  readonly request: unknown;
  readonly signature: string;
  readonly dataset: string;
  readonly split: string;
  readonly fingerprint: string;
  readonly samplesTotal: number;
  /** The run whose texts are scored again. Default: none. */
  readonly rescoredFrom?: string | undefined;
}

/** conflict: the key belongs to the run of another request, which is given. */
export interface Creation {
  readonly outcome: 'created' | 'existing' | 'conflict';
  readonly evaluation: StoredEvaluation;
}

export interface AddedSample {
  readonly sequence: number;
  readonly cancelRequested: boolean;
}

export interface EventPage {
  readonly evaluation: StoredEvaluation;
  readonly samples: readonly StoredSample[];
}

const { takenUpAt, ...plainColumns } = getTableColumns(evaluations);
const evaluationColumns = {
  ...plainColumns,
  secondsAtWork: sql<
    number | null
  >`extract(epoch from coalesce(${evaluations.finishedAt}, clock_timestamp()) - ${takenUpAt})::double precision`,
};
/** Other ids are nobody's; PostgreSQL would call them an error. */
const UUID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i;
const UNIQUE_VIOLATION = '23505';

/** A run in one of these states does not change any more. */
export function isOver({ status }: Pick<StoredEvaluation, 'status'>): boolean {
  return status === 'succeeded' || status === 'failed' || status === 'cancelled';
}

export class EvaluationStore {
  constructor(private readonly database: Database) {}

  /** Makes a run, or finds that of the same key. `enqueue` is part of it: both are done, or neither. */
  async create(
    evaluation: NewEvaluation,
    enqueue: (connection: Connection, id: string) => Promise<void>,
  ): Promise<Creation> {
    const { asked, ...values } = evaluation;
    const requestDigest = digestOf(asked);
    const id = randomUUID();
    return await this.database.transaction(async (connection) => {
      const [created] = await connection.orm
        .insert(evaluations)
        .values({ ...values, id, requestDigest })
        .onConflictDoNothing({ target: evaluations.idempotencyKey })
        .returning(evaluationColumns);
      if (created !== undefined) {
        await enqueue(connection, id);
        return { outcome: 'created', evaluation: created };
      }
      const existing = await one(connection, eq(evaluations.idempotencyKey, evaluation.idempotencyKey ?? ''));
      if (existing === undefined) throw new Error('A run that kept another from being made cannot be found.');
      return found(existing, requestDigest);
    });
  }

  /** The run of a key, for which `asked` comes again. */
  async findByKey(key: string, asked: unknown): Promise<Creation | undefined> {
    const existing = await one(this.database, eq(evaluations.idempotencyKey, key));
    return existing && found(existing, digestOf(asked));
  }

  async get(id: string): Promise<StoredEvaluation | undefined> {
    return UUID.test(id) ? await one(this.database, eq(evaluations.id, id)) : undefined;
  }

  /** Newest first, from the run below the ordinal `before` on. */
  list(limit: number, before?: number): Promise<readonly StoredEvaluation[]> {
    return this.database.orm
      .select(evaluationColumns)
      .from(evaluations)
      .where(before === undefined ? undefined : lt(evaluations.ordinal, before))
      .orderBy(desc(evaluations.ordinal))
      .limit(limit);
  }

  async count(): Promise<number> {
    const [row] = await this.database.orm.select({ total: count() }).from(evaluations);
    return row?.total ?? 0;
  }

  /** A process takes the run up, for the first time or again. Returns undefined when there is nothing left to do. */
  async begin(id: string): Promise<StoredEvaluation | undefined> {
    const { samplesDone, samplesAtStart, fruitlessStarts } = evaluations;
    return await this.change(id, inArray(evaluations.status, ['queued', 'running']), {
      status: 'running',
      startedAt: sql`coalesce(${evaluations.startedAt}, now())`,
      fruitlessStarts: sql`case when ${samplesDone} > ${samplesAtStart} then 1 else ${fruitlessStarts} + 1 end`,
      samplesAtStart: sql`${samplesDone}`,
      takenUpAt: sql`clock_timestamp()`,
    });
  }

  finish(id: string, summary: unknown): Promise<StoredEvaluation | undefined> {
    return this.end(id, { status: 'succeeded', summary });
  }

  fail(id: string, error: string): Promise<StoredEvaluation | undefined> {
    return this.end(id, { status: 'failed', error });
  }

  /** With the statistics of what was scored until then. */
  cancel(id: string, summary: unknown): Promise<StoredEvaluation | undefined> {
    return this.end(id, { status: 'cancelled', summary });
  }

  /** Ends a run that nobody has begun; one that runs is ended by who runs it. Returns undefined for one that is over. */
  requestCancel(id: string): Promise<StoredEvaluation | undefined> {
    const { status, finishedAt } = evaluations;
    return this.change(id, inArray(status, ['queued', 'running']), {
      cancelRequested: true,
      status: sql`case when ${status} = 'queued' then 'cancelled' else ${status} end`,
      finishedAt: sql`case when ${status} = 'queued' then now() else ${finishedAt} end`,
    });
  }

  /**
   * Stores a sample and counts it, as one statement. Returns undefined, and stores nothing, when the run has a sample of
   * that index already or does not run any more.
   *
   * The update keeps the run's row locked until all is committed: samples are numbered in the order in which they become
   * visible, so whoever has read number n can never miss a smaller one.
   */
  async addSample(id: string, sample: NewSample): Promise<AddedSample | undefined> {
    const row = sampleRow(id, sample);
    const { sampleId, text, referenceTexts, outputs, scores } = evaluationSamples;
    try {
      const { rows } = await this.database.orm.execute<{ sequence: number; cancelRequested: boolean }>(sql`
        with counted as (
          update ${evaluations} set samples_done = samples_done + 1
          where id = ${id} and status = 'running' and not exists (
            select 1 from ${evaluationSamples} where evaluation_id = ${id} and index = ${row.index}
          )
          returning samples_done, cancel_requested
        ), added as (
          insert into ${evaluationSamples}
            (evaluation_id, index, sequence, sample_id, text, reference_texts, outputs, scores)
          select ${id}::uuid, ${row.index}::integer, samples_done,
            ${sql.param(row.sampleId, sampleId)}::text,
            ${sql.param(row.text, text)}::text,
            ${sql.param(row.referenceTexts, referenceTexts)}::jsonb,
            ${sql.param(row.outputs, outputs)}::jsonb,
            ${sql.param(row.scores, scores)}::double precision[]
          from counted
          returning sequence
        )
        select sequence, cancel_requested as "cancelRequested", pg_notify(${CHANNEL}, ${id}) from added, counted`);
      return rows[0] && { sequence: rows[0].sequence, cancelRequested: rows[0].cancelRequested };
    } catch (error) {
      // another process stored this index while the statement waited for the run's row
      if (codeOf(error) === UNIQUE_VIOLATION) return undefined;
      throw error;
    }
  }

  /** Samples in the dataset's order, from the one behind index `after` on. */
  samples(id: string, limit: number, after = -1): Promise<readonly StoredSample[]> {
    return inPages<StoredSample>(limit, async (size, last) => {
      const rows = await this.database.orm
        .select()
        .from(evaluationSamples)
        .where(and(eq(evaluationSamples.evaluationId, id), gt(evaluationSamples.index, last?.index ?? after)))
        .orderBy(asc(evaluationSamples.index))
        .limit(size);
      return rows.map(sampleOf);
    });
  }

  /**
   * Samples in the order of storing, from the one behind number `after` on, and the run as it was before they were read:
   * when it was over and there are fewer than `limit`, there will be no more. Undefined: there is no such run.
   */
  async samplesSince(id: string, after: number, limit: number): Promise<EventPage | undefined> {
    const evaluation = await this.get(id);
    if (evaluation === undefined) return undefined;
    if (evaluation.samplesDone <= after) return { evaluation, samples: [] };
    const rows = await this.database.orm
      .select()
      .from(evaluationSamples)
      .where(and(eq(evaluationSamples.evaluationId, id), gt(evaluationSamples.sequence, after)))
      .orderBy(asc(evaluationSamples.sequence))
      .limit(limit);
    return { evaluation, samples: rows.map(sampleOf) };
  }

  async doneIndexes(id: string): Promise<ReadonlySet<number>> {
    const { index, evaluationId } = evaluationSamples;
    const rows = await this.database.orm.select({ index }).from(evaluationSamples).where(eq(evaluationId, id));
    return new Set(rows.map((row) => row.index));
  }

  /** What was measured of samples, in the order of storing, from the one behind number `after` on. */
  scoresSince(id: string, after: number): Promise<readonly ScoreRow[]> {
    const { index, sequence, scores, outputs, evaluationId } = evaluationSamples;
    const ofOutputs = (path: string) => sql<readonly number[]>`jsonb_path_query_array(${outputs}, ${path}::jsonpath)`;
    const completionTokens = ofOutputs('$[*].completionTokens');
    const latenciesMs = ofOutputs('$[*].latencyMs');
    return inPages<ScoreRow>(Number.POSITIVE_INFINITY, async (size, last) => {
      const rows = await this.database.orm
        .select({ index, sequence, scores, completionTokens, latenciesMs })
        .from(evaluationSamples)
        .where(and(eq(evaluationId, id), gt(sequence, last?.sequence ?? after)))
        .orderBy(asc(sequence))
        .limit(size);
      return rows.map((row) => ({ ...row, scores: scoresOf(row.scores) }));
    });
  }

  /** The first end is the end: a run that is over stays as it is. */
  private end(id: string, values: Change): Promise<StoredEvaluation | undefined> {
    return this.change(id, isNull(evaluations.finishedAt), { ...values, finishedAt: sql`now()` });
  }

  private async change(id: string, condition: SQL | undefined, values: Change): Promise<StoredEvaluation | undefined> {
    if (!UUID.test(id)) return undefined;
    return await this.database.transaction(async ({ orm }) => {
      const [changed] = await orm
        .update(evaluations)
        .set(values)
        .where(and(eq(evaluations.id, id), condition))
        .returning(evaluationColumns);
      if (changed !== undefined) await orm.execute(sql`select pg_notify(${CHANNEL}, ${id})`);
      return changed;
    });
  }
}

type Change = Partial<{ [Key in keyof typeof evaluations.$inferInsert]: (typeof evaluations.$inferInsert)[Key] | SQL }>;

function digestOf(asked: unknown): string {
  return createHash('sha256').update(storableJson(asked)).digest('hex');
}

function found(existing: StoredEvaluation, requestDigest: string): Creation {
  return { outcome: existing.requestDigest === requestDigest ? 'existing' : 'conflict', evaluation: existing };
}

async function one({ orm }: Connection, condition: SQL): Promise<StoredEvaluation | undefined> {
  const [row] = await orm.select(evaluationColumns).from(evaluations).where(condition);
  return row;
}

/** drizzle puts the driver's error inside its own. */
function codeOf(error: unknown): unknown {
  const { cause } = error as { cause?: unknown };
  return (cause as { code?: unknown } | undefined)?.code;
}

/** Rows are parsed in this thread: a few at a time hold it for 2 to 3 ms, even of 8 variants; 1,500 took 110 ms. */
const ROWS_AT_ONCE = 20;

async function inPages<Row>(
  limit: number,
  read: (size: number, last: Row | undefined) => Promise<readonly Row[]>,
): Promise<readonly Row[]> {
  const rows: Row[] = [];
  while (rows.length < limit) {
    const size = Math.min(ROWS_AT_ONCE, limit - rows.length);
    const page = await read(size, rows.at(-1));
    rows.push(...page);
    if (page.length < size) break;
  }
  return rows;
}
