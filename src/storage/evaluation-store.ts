/** Evaluation runs and their scored samples. */
import { and, asc, eq, gt, sql } from 'drizzle-orm';
import { CHANNEL, type Database } from './database.ts';
import {
  type NewSample,
  type ScoreRow,
  type StoredEvaluation,
  type StoredSample,
  sampleOf,
  sampleRow,
  scoresOf,
} from './evaluation-rows.ts';
import { type NewRun, RunStore, violatedConstraint } from './run-store.ts';
import { evaluationSamples, evaluations } from './tables.ts';

export interface NewEvaluation extends NewRun {
  readonly signature: string;
  readonly dataset: string;
  readonly split: string;
  readonly fingerprint: string;
  readonly samplesTotal: number;
  /** The run whose texts are scored again. Default: none. */
  readonly rescoredFrom?: string | undefined;
}

export interface AddedSample {
  readonly sequence: number;
  readonly cancelRequested: boolean;
}

export interface EventPage {
  readonly evaluation: StoredEvaluation;
  readonly samples: readonly StoredSample[];
}

type EvaluationValues = typeof evaluations.$inferInsert;

export class EvaluationStore extends RunStore<StoredEvaluation, NewEvaluation, EvaluationValues> {
  constructor(database: Database) {
    super(database, evaluations, { done: evaluations.samplesDone, atStart: evaluations.samplesAtStart });
  }

  finish(id: string, summary: unknown): Promise<StoredEvaluation | undefined> {
    return this.end(id, { status: 'succeeded', summary });
  }

  /** With the statistics of what was scored until then. */
  cancel(id: string, summary: unknown): Promise<StoredEvaluation | undefined> {
    return this.end(id, { status: 'cancelled', summary });
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
      if (violatedConstraint(error) !== undefined) return undefined;
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
