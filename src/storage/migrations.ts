/**
 * The tables' history as SQL: what is written here is never changed, only added to. It is not drizzle's migrator, which
 * takes no lock: replicas start at the same time.
 */
import { type SQL, sql } from 'drizzle-orm';
import type { NodePgDatabase } from 'drizzle-orm/node-postgres';
import type { Connection } from './database.ts';
import { StorageError } from './storage-error.ts';

const migrations: readonly SQL[] = [
  sql`
    create table gistql.evaluations (
      id uuid primary key,
      ordinal bigserial not null unique,
      idempotency_key text unique,
      request jsonb not null,
      request_digest text not null,
      signature text not null,
      dataset text not null,
      split text not null,
      fingerprint text not null,
      samples_total integer not null,
      samples_done integer not null default 0,
      status text not null default 'queued'
        check (status in ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
      error text,
      cancel_requested boolean not null default false,
      rescored_from uuid,
      summary jsonb,
      fruitless_starts integer not null default 0,
      samples_at_start integer not null default 0,
      created_at timestamptz not null default now(),
      started_at timestamptz,
      finished_at timestamptz
    );
    create table gistql.evaluation_samples (
      evaluation_id uuid not null references gistql.evaluations (id) on delete cascade,
      index integer not null,
      sequence integer not null,
      sample_id text not null,
      text text not null,
      reference_texts jsonb not null,
      outputs jsonb not null,
      scores double precision[] not null,
      primary key (evaluation_id, index),
      unique (evaluation_id, sequence)
    )`,
  sql`alter table gistql.evaluations add column taken_up_at timestamptz`,
  sql`
    create table gistql.trainings (
      id uuid primary key,
      ordinal bigserial not null unique,
      idempotency_key text unique,
      request jsonb not null,
      request_digest text not null,
      status text not null default 'queued'
        check (status in ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
      error text,
      cancel_requested boolean not null default false,
      fruitless_starts integer not null default 0,
      created_at timestamptz not null default now(),
      started_at timestamptz,
      finished_at timestamptz,
      taken_up_at timestamptz,
      output_id text not null,
      model jsonb not null,
      step integer not null default 0,
      step_at_start integer not null default 0,
      steps_total integer not null,
      event_count integer not null default 0,
      epoch double precision not null default 0,
      loss double precision,
      validation_loss double precision,
      best_validation_loss double precision,
      learning_rate double precision not null default 0,
      tokens_per_second double precision,
      trainable_parameters double precision not null,
      total_parameters double precision not null,
      warnings jsonb not null default '[]'
    );
    create unique index trainings_open_outputs on gistql.trainings (output_id) where status in ('queued', 'running');
    create table gistql.training_events (
      training_id uuid not null references gistql.trainings (id) on delete cascade,
      sequence integer not null,
      kind text not null check (kind in ('step', 'validation')),
      step integer not null,
      figures jsonb not null,
      primary key (training_id, kind, step),
      unique (training_id, sequence)
    )`,
  sql`
    alter table gistql.evaluations add column left_at timestamptz;
    alter table gistql.trainings add column left_at timestamptz`,
];

/** The schema of the job queue's tables. */
export const JOBS_SCHEMA = 'gistql_jobs';

/** An advisory lock of this number is ours: the letters GISTQL. */
const LOCK = 0x474953_54514c;
const lock = sql`select pg_advisory_xact_lock(${LOCK})`;

/** Until the transaction ends no other process makes or changes tables. */
export async function lockTables({ orm }: Connection): Promise<void> {
  await orm.execute(lock);
}

/** Brings the tables up to date; of several processes that start at once one does it, the others wait. */
export async function migrate(orm: NodePgDatabase): Promise<void> {
  await orm.transaction(async (transaction) => {
    await transaction.execute(lock);
    await transaction.execute(sql`create schema if not exists gistql`);
    // pg-boss makes its own tables in it, and two of them that make a schema at once can fail
    await transaction.execute(sql`create schema if not exists ${sql.identifier(JOBS_SCHEMA)}`);
    await transaction.execute(sql`
      create table if not exists gistql.migrations (
        number integer primary key,
        applied_at timestamptz not null default now()
      )`);
    const { rows } = await transaction.execute<{ last: number }>(
      sql`select coalesce(max(number), 0) as last from gistql.migrations`,
    );
    const last = rows[0]?.last ?? 0;
    if (last > migrations.length) {
      throw new StorageError(
        'invalid',
        `Expected a database of at most migration ${migrations.length}, a newer GistQL brought this one to ${last}. Start that GistQL, or name another database.`,
      );
    }
    for (const [index, migration] of migrations.entries()) {
      if (index < last) continue;
      await transaction.execute(migration);
      await transaction.execute(sql`insert into gistql.migrations (number) values (${index + 1})`);
    }
  });
}
