/** An evaluation and its samples as the rest of the server sees them, and the way from and to their rows. */
import type { StoredRun } from './run-store.ts';
import type { evaluationSamples, evaluations } from './tables.ts';

interface StoredScore {
  readonly precision: number;
  readonly recall: number;
  readonly fmeasure: number;
}

export interface StoredScores {
  readonly rouge1: StoredScore;
  readonly rouge2: StoredScore;
  readonly rougeL: StoredScore;
  readonly rougeLsum: StoredScore;
}

export interface StoredOutput {
  readonly label: string;
  readonly summary: string;
  readonly completionTokens: number;
  readonly latencyMs: number;
  /** Whether the text was cut to what the model takes; null in runs of before that was stored. */
  readonly truncated: boolean | null;
  readonly rouge: StoredScores;
  /** As RougeScores has them. */
  readonly warnings: readonly string[];
}

export interface NewSample {
  /** Its place among the run's samples, from 0: no two have the same. */
  readonly index: number;
  readonly sampleId: string;
  readonly text: string;
  readonly references: readonly string[];
  /** One a variant, in the run's order. */
  readonly outputs: readonly StoredOutput[];
}

export interface StoredSample extends NewSample {
  /** 1, 2, 3, … in the order in which the run's samples were stored. */
  readonly sequence: number;
}

export type StoredEvaluation = StoredRun & Omit<typeof evaluations.$inferSelect, 'takenUpAt'>;

/** What was measured of one sample, without its texts; lists have one entry a variant, in the run's order. */
export interface ScoreRow {
  readonly index: number;
  readonly sequence: number;
  readonly scores: readonly StoredScores[];
  readonly completionTokens: readonly number[];
  readonly latenciesMs: readonly number[];
}

const NUMBERS_OF_METRIC = 3;
const NUMBERS_OF_VARIANT = 4 * NUMBERS_OF_METRIC;

/** What the column `outputs` holds of an output. */
type PlainOutput = Omit<StoredOutput, 'rouge'>;

export function sampleRow(evaluationId: string, sample: NewSample) {
  const outputs: readonly PlainOutput[] = sample.outputs.map(({ rouge: _, ...output }) => output);
  return {
    evaluationId,
    index: sample.index,
    sampleId: sample.sampleId,
    text: sample.text,
    referenceTexts: sample.references,
    outputs,
    scores: sample.outputs.flatMap(({ rouge }) =>
      [rouge.rouge1, rouge.rouge2, rouge.rougeL, rouge.rougeLsum].flatMap((score) => [
        score.precision,
        score.recall,
        score.fmeasure,
      ]),
    ),
  };
}

export function sampleOf(row: typeof evaluationSamples.$inferSelect): StoredSample {
  const rouge = scoresOf(row.scores);
  return {
    index: row.index,
    sequence: row.sequence,
    sampleId: row.sampleId,
    text: row.text,
    references: row.referenceTexts as readonly string[],
    outputs: (row.outputs as readonly PlainOutput[]).flatMap((output, variant) => {
      const scores = rouge[variant];
      return scores === undefined ? [] : [{ ...output, truncated: output.truncated ?? null, rouge: scores }];
    }),
  };
}

export function scoresOf(numbers: readonly number[]): readonly StoredScores[] {
  const scoreAt = (position: number): StoredScore => {
    const [precision = 0, recall = 0, fmeasure = 0] = numbers.slice(position, position + NUMBERS_OF_METRIC);
    return { precision, recall, fmeasure };
  };
  return Array.from({ length: numbers.length / NUMBERS_OF_VARIANT }, (_, variant) => {
    const start = variant * NUMBERS_OF_VARIANT;
    return {
      rouge1: scoreAt(start),
      rouge2: scoreAt(start + NUMBERS_OF_METRIC),
      rougeL: scoreAt(start + 2 * NUMBERS_OF_METRIC),
      rougeLsum: scoreAt(start + 3 * NUMBERS_OF_METRIC),
    };
  });
}
