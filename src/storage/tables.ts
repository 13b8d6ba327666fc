/** The tables of evaluations as drizzle sees them; migrations.ts makes them, and a test holds both equal. */
import {
  bigserial,
  boolean,
  customType,
  doublePrecision,
  integer,
  pgSchema,
  primaryKey,
  text,
  timestamp,
  unique,
  uuid,
} from 'drizzle-orm/pg-core';

/** PostgreSQL stores no NUL characters and no halves of surrogate pairs: both become U+FFFD, as in any UTF-8 encoder. */
export function storableText(value: string): string {
  return value.replaceAll('\0', '\uFFFD').replaceAll(/\p{Surrogate}/gu, '\uFFFD');
}

/** JSON that PostgreSQL stores, with keys in order: equal values give equal texts. */
export function storableJson(value: unknown): string {
  return JSON.stringify(value, (_, item: unknown) => {
    if (typeof item === 'string') return storableText(item);
    if (typeof item !== 'object' || item === null || Array.isArray(item)) return item;
    const entries = Object.entries(item).map(([key, inner]) => [storableText(key), inner] as const);
    return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

const safeText = customType<{ data: string; driverData: string }>({
  dataType: () => 'text',
  toDriver: storableText,
});

const safeJson = customType<{ data: unknown; driverData: string }>({
  dataType: () => 'jsonb',
  toDriver: storableJson,
});

const RUN_STATUSES = ['queued', 'running', 'succeeded', 'failed', 'cancelled'] as const;
export type RunStatus = (typeof RUN_STATUSES)[number];

const schema = pgSchema('gistql');

export const evaluations = schema.table('evaluations', {
  id: uuid().primaryKey(),
  /** Order of creation: the cursor of lists. */
  ordinal: bigserial({ mode: 'number' }).notNull().unique(),
  idempotencyKey: safeText('idempotency_key').unique(),
  request: safeJson().notNull(),
  requestDigest: text('request_digest').notNull(),
  signature: safeText().notNull(),
  dataset: safeText().notNull(),
  split: safeText().notNull(),
  fingerprint: text().notNull(),
  samplesTotal: integer('samples_total').notNull(),
  /** Number of the run's rows in evaluation_samples, and the sequence of the last of them. */
  samplesDone: integer('samples_done').notNull().default(0),
  status: text({ enum: RUN_STATUSES }).notNull().default('queued'),
  error: safeText(),
  cancelRequested: boolean('cancel_requested').notNull().default(false),
  rescoredFrom: uuid('rescored_from'),
  /** Final statistics. */
  summary: safeJson(),
  /** Times in a row that a process took the run up, with no sample scored in between. */
  fruitlessStarts: integer('fruitless_starts').notNull().default(0),
  /** When a process took the run up last, samples_done was this. */
  samplesAtStart: integer('samples_at_start').notNull().default(0),
  createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
  startedAt: timestamp('started_at', { withTimezone: true }),
  finishedAt: timestamp('finished_at', { withTimezone: true }),
  takenUpAt: timestamp('taken_up_at', { withTimezone: true }),
});

export const evaluationSamples = schema.table(
  'evaluation_samples',
  {
    evaluationId: uuid('evaluation_id')
      .notNull()
      .references(() => evaluations.id, { onDelete: 'cascade' }),
    index: integer().notNull(),
    /** 1, 2, 3, … in the order of commits, without gaps: the cursor of events. */
    sequence: integer().notNull(),
    sampleId: safeText('sample_id').notNull(),
    text: safeText().notNull(),
    referenceTexts: safeJson('reference_texts').notNull(),
    /** One a variant: what it wrote, and what that took. */
    outputs: safeJson().notNull(),
    /** Twelve numbers a variant: precision, recall and F-measure of each metric. Apart from the texts, to be read without. */
    scores: doublePrecision().array().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.evaluationId, table.index] }),
    unique().on(table.evaluationId, table.sequence),
  ],
);
