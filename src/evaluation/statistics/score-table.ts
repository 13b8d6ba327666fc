/** The scores of a run's samples, in memory: by sample, variant and metric, in whatever order they come. */
import { invariant } from '../../runtime/errors.ts';
import type { RougeScore } from '../rouge/rouge.ts';

export const METRICS = ['rouge1', 'rouge2', 'rougeL', 'rougeLsum'] as const;

export type Metric = (typeof METRICS)[number];

/** The scores of one output. */
export type MetricScores = Readonly<Record<Metric, RougeScore>>;

const PARTS = ['precision', 'recall', 'fmeasure'] as const;

export type ScorePart = (typeof PARTS)[number];

/** Scores by sample; a column is a variant's metric, `variant * METRICS.length + metric`. */
export class ScoreTable {
  readonly columnCount: number;
  /** [sample, column, part] */
  private readonly scores: Float64Array;
  /** [sample]: 1 where it has scores. */
  private readonly scored: Uint8Array;
  private prefix = 0;

  constructor(variantCount: number, sampleCount: number) {
    this.columnCount = variantCount * METRICS.length;
    this.scores = new Float64Array(sampleCount * this.columnCount * PARTS.length);
    this.scored = new Uint8Array(sampleCount);
  }

  /** How many samples from the first on have scores, without a gap. */
  get prefixLength(): number {
    return this.prefix;
  }

  /** Takes the scores of one sample, one a variant; a sample's scores come once. */
  add(sampleIndex: number, scores: readonly MetricScores[]): void {
    invariant(this.scored[sampleIndex] === 0, 'a sample is one of the run and scored once');
    invariant(scores.length * METRICS.length === this.columnCount, 'every variant has scores');
    let place = this.placeOf(sampleIndex, 0, PARTS[0]);
    for (const ofVariant of scores) {
      for (const metric of METRICS) {
        for (const part of PARTS) this.scores[place++] = ofVariant[metric][part];
      }
    }
    this.scored[sampleIndex] = 1;
    while (this.scored[this.prefix] === 1) this.prefix++;
  }

  /** The samples that have scores, ascending. */
  scoredIndexes(): Uint32Array {
    const indexes = new Uint32Array(this.scored.length);
    let count = 0;
    for (let index = 0; index < this.scored.length; index++) if (this.scored[index] === 1) indexes[count++] = index;
    return indexes.subarray(0, count);
  }

  /** One part of a column at these samples. */
  column(column: number, part: ScorePart, sampleIndexes: Uint32Array): Float64Array {
    const { scores } = this;
    const values = new Float64Array(sampleIndexes.length);
    let place = 0;
    for (const index of sampleIndexes) values[place++] = scores[this.placeOf(index, column, part)] as number;
    return values;
  }

  fmeasure(sampleIndex: number, column: number): number {
    return this.scores[this.placeOf(sampleIndex, column, 'fmeasure')] as number;
  }

  private placeOf(sampleIndex: number, column: number, part: ScorePart): number {
    return (sampleIndex * this.columnCount + column) * PARTS.length + PARTS.indexOf(part);
  }
}
