/**
 * Runs of one kind and how they live: made once a key, begun, ended, cancelled. Every change is told on the database's
 * channel as it commits, with the run's id. It does not know what a run does or who works on it.
 */
import { createHash, randomUUID } from 'node:crypto';
import { and, count, desc, eq, getTableColumns, gt, inArray, isNull, lt, or, type SQL, sql } from 'drizzle-orm';
import type { PgColumn, PgTable } from 'drizzle-orm/pg-core';
import { CHANNEL, type Connection, type Database } from './database.ts';
import { type RunTable, storableJson } from './tables.ts';

export interface NewRun {
  /** A second run of the same key is not made. Default: none. */
  readonly idempotencyKey?: string | undefined;
  /** What was asked, as JSON: what a key is compared by. */
  readonly asked: unknown;
  /** What the run is taken up again from, as JSON. */
  readonly request: unknown;
}

/** What every run has. */
export interface StoredRun extends Omit<RunTable['$inferSelect'], 'takenUpAt'> {
  /** Since a process took it up last until now, or its end, by the database's clock; null before the first. */
  readonly secondsAtWork: number | null;
}

/** conflict: the key belongs to the run of another request, which is given. */
export interface Creation<Run> {
  readonly outcome: 'created' | 'existing' | 'conflict';
  readonly run: Run;
}

/** The columns that count what a run has done: now, and when a process took it up last. */
export interface ProgressColumns {
  readonly done: PgColumn;
  readonly atStart: PgColumn;
}

/** Values of columns, or what the database computes them from. */
export type Change<Values> = { readonly [Key in keyof Values]?: Values[Key] | SQL };

const UNIQUE_VIOLATION = '23505';
/** Other ids are nobody's; PostgreSQL would call them an error. */
const UUID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i;

/** A run in one of these states does not change any more, unless it is resumed. */
export function isOver({ status }: Pick<StoredRun, 'status'>): boolean {
  return status === 'succeeded' || status === 'failed' || status === 'cancelled';
}

export class RunStore<Run extends StoredRun, New extends NewRun, Values extends object> {
  private readonly table: RunTable;
  private readonly columns: Record<string, PgColumn | SQL>;

  constructor(
    protected readonly database: Database,
    table: PgTable,
    private readonly progress: ProgressColumns,
  ) {
    // drizzle has no type for a table with at least these columns
    this.table = table as unknown as RunTable;
    const { takenUpAt, ...columns } = getTableColumns(this.table);
    const { finishedAt } = this.table;
    const secondsAtWork = sql<
      number | null
    >`extract(epoch from coalesce(${finishedAt}, clock_timestamp()) - ${takenUpAt})::double precision`;
    this.columns = { ...columns, secondsAtWork };
  }

  /** Makes a run, or finds that of the same key. `enqueue` is part of it: both are done, or neither. */
  async create(run: New, enqueue: (connection: Connection, id: string) => Promise<void>): Promise<Creation<Run>> {
    const { asked, ...values } = run;
    const requestDigest = digestOf(asked);
    const id = randomUUID();
    return await this.database.transaction(async (connection) => {
      const [created] = await connection.orm
        .insert(this.table)
        .values({ ...values, id, requestDigest })
        .onConflictDoNothing({ target: this.table.idempotencyKey })
        .returning(this.columns);
      if (created !== undefined) {
        await enqueue(connection, id);
        return { outcome: 'created', run: created as unknown as Run };
      }
      const existing = await this.one(connection, eq(this.table.idempotencyKey, run.idempotencyKey ?? ''));
      if (existing === undefined) throw new Error('A run that kept another from being made cannot be found.');
      return found(existing, requestDigest);
    });
  }

  /** The run of a key, for which `asked` comes again. */
  async findByKey(key: string, asked: unknown): Promise<Creation<Run> | undefined> {
    const existing = await this.one(this.database, eq(this.table.idempotencyKey, key));
    return existing && found(existing, digestOf(asked));
  }

  async get(id: string): Promise<Run | undefined> {
    return UUID.test(id) ? await this.one(this.database, eq(this.table.id, id)) : undefined;
  }

  /** Newest first, from the run below the ordinal `before` on. */
  async list(limit: number, before?: number): Promise<readonly Run[]> {
    const { ordinal } = this.table;
    const rows = await this.database.orm
      .select(this.columns)
      .from(this.table)
      .where(before === undefined ? undefined : lt(ordinal, before))
      .orderBy(desc(ordinal))
      .limit(limit);
    return rows as unknown as readonly Run[];
  }

  async count(): Promise<number> {
    const [row] = await this.database.orm.select({ total: count() }).from(this.table);
    return row?.total ?? 0;
  }

  /** A process takes the run up, for the first time or again. Returns undefined when there is nothing left to do. */
  async begin(id: string): Promise<Run | undefined> {
    const { status, startedAt, fruitlessStarts, leftAt } = this.table;
    const { done, atStart } = this.progress;
    return await this.change(id, inArray(status, ['queued', 'running']), {
      status: 'running',
      startedAt: sql`coalesce(${startedAt}, now())`,
      fruitlessStarts: sql`case when ${done} > ${atStart} then 1 else ${fruitlessStarts} + 1 end`,
      leftAt: sql`case when ${done} > ${atStart} then null else ${leftAt} end`,
      [this.keyOf(atStart)]: sql`${done}`,
      takenUpAt: sql`clock_timestamp()`,
    });
  }

  /**
   * The process that took the run up lacks what it needs: the run waits for another one, and this start does not count.
   * Returns undefined, and leaves it as it is, when it has waited for `mostHours`.
   */
  leave(id: string, mostHours: number): Promise<Run | undefined> {
    const { status, fruitlessStarts, leftAt } = this.table;
    const mayWait = or(isNull(leftAt), gt(leftAt, sql`now() - make_interval(hours => ${mostHours})`));
    return this.change(id, and(eq(status, 'running'), mayWait), {
      status: 'queued',
      fruitlessStarts: sql`greatest(${fruitlessStarts} - 1, 0)`,
      leftAt: sql`coalesce(${leftAt}, now())`,
    });
  }

  fail(id: string, error: string): Promise<Run | undefined> {
    return this.change(id, isNull(this.table.finishedAt), { status: 'failed', error, finishedAt: sql`now()` });
  }

  /** Ends a run that nobody has begun; one that runs is ended by who runs it. Returns undefined for one that is over. */
  requestCancel(id: string): Promise<Run | undefined> {
    const { status, finishedAt } = this.table;
    return this.change(id, inArray(status, ['queued', 'running']), {
      cancelRequested: true,
      status: sql`case when ${status} = 'queued' then 'cancelled' else ${status} end`,
      finishedAt: sql`case when ${status} = 'queued' then now() else ${finishedAt} end`,
    });
  }

  /** The first end is the end: a run that is over stays as it is. */
  protected end(id: string, values: Change<Values>): Promise<Run | undefined> {
    return this.change(id, isNull(this.table.finishedAt), { ...values, finishedAt: sql`now()` });
  }

  /** Changes a run that meets the condition, and tells. `also` is part of it. */
  protected async change(
    id: string,
    condition: SQL | undefined,
    values: Readonly<Record<string, unknown>>,
    also: (connection: Connection) => Promise<void> = async () => {},
  ): Promise<Run | undefined> {
    if (!UUID.test(id)) return undefined;
    return await this.database.transaction(async (connection) => {
      const { orm } = connection;
      const [changed] = await orm
        .update(this.table)
        .set(values)
        .where(and(eq(this.table.id, id), condition))
        .returning(this.columns);
      if (changed === undefined) return undefined;
      await also(connection);
      await orm.execute(sql`select pg_notify(${CHANNEL}, ${id})`);
      return changed as unknown as Run;
    });
  }

  protected async one({ orm }: Connection, condition: SQL): Promise<Run | undefined> {
    const [row] = await orm.select(this.columns).from(this.table).where(condition);
    return row as unknown as Run | undefined;
  }

  private keyOf(column: PgColumn): string {
    const entry = Object.entries(getTableColumns(this.table)).find(([, one]) => one === column);
    if (entry === undefined) throw new Error(`Broken invariant: ${column.name} is a column of another table`);
    return entry[0];
  }
}

/** Name of the unique constraint or index that a statement ran into; undefined: it failed otherwise. */
export function violatedConstraint(error: unknown): string | undefined {
  // drizzle puts the driver's error inside its own
  const { code, constraint } = ((error as { cause?: unknown }).cause ?? {}) as { code?: unknown; constraint?: unknown };
  return code === UNIQUE_VIOLATION ? String(constraint) : undefined;
}

function digestOf(asked: unknown): string {
  return createHash('sha256').update(storableJson(asked)).digest('hex');
}

function found<Run extends StoredRun>(existing: Run, requestDigest: string): Creation<Run> {
  return { outcome: existing.requestDigest === requestDigest ? 'existing' : 'conflict', run: existing };
}
