/** The tables of runs as drizzle sees them; migrations.ts makes them, and a test holds both equal. */
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

/** What every run has, whatever it does. */
function runColumns() {
  return {
    id: uuid().primaryKey(),
    /** Order of creation: the cursor of lists. */
    ordinal: bigserial({ mode: 'number' }).notNull().unique(),
    idempotencyKey: safeText('idempotency_key').unique(),
    request: safeJson().notNull(),
    requestDigest: text('request_digest').notNull(),
    status: text({ enum: RUN_STATUSES }).notNull().default('queued'),
    error: safeText(),
    cancelRequested: boolean('cancel_requested').notNull().default(false),
    /** Times in a row that a process took the run up, with no progress in between. */
    fruitlessStarts: integer('fruitless_starts').notNull().default(0),
    createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
    startedAt: timestamp('started_at', { withTimezone: true }),
    finishedAt: timestamp('finished_at', { withTimezone: true }),
    takenUpAt: timestamp('taken_up_at', { withTimezone: true }),
    /** When a process that lacked what the run needs left it to others; null when one has come on with it since. */
    leftAt: timestamp('left_at', { withTimezone: true }),
  };
}

/** No table: what tables of runs have in common. */
const anyRuns = schema.table('runs', runColumns());
export type RunTable = typeof anyRuns;

export const evaluations = schema.table('evaluations', {
  ...runColumns(),
  signature: safeText().notNull(),
  dataset: safeText().notNull(),
  split: safeText().notNull(),
  fingerprint: text().notNull(),
  samplesTotal: integer('samples_total').notNull(),
  /** Number of the run's rows in evaluation_samples, and the sequence of the last of them. */
  samplesDone: integer('samples_done').notNull().default(0),
  /** When a process took the run up last, samples_done was this. */
  samplesAtStart: integer('samples_at_start').notNull().default(0),
  rescoredFrom: uuid('rescored_from'),
  /** Final statistics. */
  summary: safeJson(),
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

const TRAINING_EVENT_KINDS = ['step', 'validation'] as const;

export const trainings = schema.table('trainings', {
  ...runColumns(),
  /** Id of the adapter or model that comes out. */
  outputId: safeText('output_id').notNull(),
  /** What was known of the model when the run was made. */
  model: safeJson().notNull(),
  /** Steps done, each of which has an event. */
  step: integer().notNull().default(0),
  /** When a process took the run up last, step was this. */
  stepAtStart: integer('step_at_start').notNull().default(0),
  stepsTotal: integer('steps_total').notNull(),
  /** Number of the run's rows in training_events, and the sequence of the last of them. */
  eventCount: integer('event_count').notNull().default(0),
  epoch: doublePrecision().notNull().default(0),
  loss: doublePrecision(),
  validationLoss: doublePrecision('validation_loss'),
  bestValidationLoss: doublePrecision('best_validation_loss'),
  learningRate: doublePrecision('learning_rate').notNull().default(0),
  tokensPerSecond: doublePrecision('tokens_per_second'),
  trainableParameters: doublePrecision('trainable_parameters').notNull(),
  totalParameters: doublePrecision('total_parameters').notNull(),
  warnings: safeJson().notNull().default([]),
});

export const trainingEvents = schema.table(
  'training_events',
  {
    trainingId: uuid('training_id')
      .notNull()
      .references(() => trainings.id, { onDelete: 'cascade' }),
    /** 1, 2, 3, … in the order of commits, without gaps: the cursor of events. */
    sequence: integer().notNull(),
    kind: text({ enum: TRAINING_EVENT_KINDS }).notNull(),
    step: integer().notNull(),
    /** What was measured, by name. */
    figures: safeJson().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.trainingId, table.kind, table.step] }),
    unique().on(table.trainingId, table.sequence),
  ],
);
