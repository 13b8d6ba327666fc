/**
 * What a run's scores say: means, differences from the baseline, and how far both can be trusted. Equal scores and
 * settings give equal numbers to the last bit, whatever the order in which samples finished: all is computed in the
 * order of sample indexes.
 *
 * Looks of the anytime intervals are at the samples 0, 1, 2 …, as far as they have no gap. Samples finish out of order,
 * those with short outputs first, and short outputs score differently: in that order an early look would be of another
 * mean. What is behind a gap waits for a few samples in flight; at the end nothing does.
 */
import { type Work, WorkMeter } from '../work.ts';
import { bootstrapMeans } from './bootstrap.ts';
import { ConfidenceSequence } from './confidence-sequence.ts';
import { holmAdjusted } from './holm.ts';
import type { Interval } from './interval.ts';
import { countOutcomes, type Outcomes, pairedRandomization, type RandomizationTest } from './paired-randomization.ts';
import { METRICS, type Metric, type MetricScores, type ScorePart, ScoreTable } from './score-table.ts';

interface MetricStatistics {
  readonly metric: Metric;
  /** Means over the samples scored so far, 0..1; `mean` is the F-measure's. */
  readonly mean: number;
  readonly precision: number;
  readonly recall: number;
  /** Percentile bootstrap of `mean`; valid for a look at the end. */
  readonly interval: Interval;
  /** Valid at every look. */
  readonly anytimeInterval: Interval;
}

export interface VariantStatistics {
  readonly label: string;
  readonly metrics: readonly MetricStatistics[];
}

/** A candidate against the baseline on the same samples: F-measures, candidate minus baseline. */
export interface ComparisonStatistics extends Outcomes {
  readonly metric: Metric;
  readonly baseline: string;
  readonly candidate: string;
  readonly meanDifference: number;
  /** Percentile bootstrap of `meanDifference`; valid for a look at the end. */
  readonly interval: Interval;
  /** Valid at every look. */
  readonly anytimeInterval: Interval;
  /** Adjusted for all comparisons of the run; for a look at the end. */
  readonly pValue: number;
  readonly unadjustedPValue: number;
  /** The test in words. */
  readonly test: string;
}

/** Without any scored sample there are neither metrics nor comparisons. */
export interface RunSummary {
  readonly sampleCount: number;
  readonly variants: readonly VariantStatistics[];
  /** By candidate, then by metric. */
  readonly comparisons: readonly ComparisonStatistics[];
}

/** How many random draws intervals and p-values are based on. */
export interface Effort {
  readonly resampleCount: number;
  readonly flipCount: number;
}

/** For the end of a run. */
export const FINAL_EFFORT: Effort = { resampleCount: 10_000, flipCount: 10_000 };

/** Flips with which p-values down to 0.0004 are in reach after Holm's correction, however many candidates there are. */
export function flipsFor(variantCount: number): number {
  return FINAL_EFFORT.flipCount * Math.max(1, variantCount - 1);
}

/** For looks while it goes on: a tenth of the work or less, ends that vary by about 4 % of the interval's half width. */
export const LIVE_EFFORT: Effort = { resampleCount: 1000, flipCount: 1000 };

/** What going over a value, and what looking at one costs at least, in steps of the meter. */
const VALUE_STEPS = 4;
const LOOK_STEPS = 32;

export interface RunStatisticsOptions {
  /** Labels of the variants; the first is the baseline. */
  readonly labels: readonly string[];
  /** How many samples the run has; their indexes are 0 to this, without it. */
  readonly sampleCount: number;
  /** Seed of resamples and sign flips. Default: 0. */
  readonly seed?: number;
}

/** A number for each sample, in the order of sample indexes. */
type Column = Float64Array;

/** The anytime intervals at one moment. */
interface Looks {
  readonly means: readonly Interval[];
  readonly differences: readonly Interval[];
}

/** What there is of each candidate's metrics beside the tests. */
interface Differences {
  readonly meanDifferences: readonly number[];
  readonly outcomes: readonly Outcomes[];
  readonly intervals: readonly Interval[];
  readonly anytimeIntervals: readonly Interval[];
}

/** The scores of one run and what follows from them. */
export class RunStatistics {
  private readonly labels: readonly string[];
  private readonly seed: number;
  private readonly table: ScoreTable;
  /** [variant and metric] */
  private readonly means: readonly ConfidenceSequence[];
  /** [candidate and metric] */
  private readonly differences: readonly ConfidenceSequence[];

  constructor({ labels, sampleCount, seed = 0 }: RunStatisticsOptions) {
    this.labels = labels;
    this.seed = seed;
    this.table = new ScoreTable(labels.length, sampleCount);
    this.means = Array.from({ length: this.table.columnCount }, () => new ConfidenceSequence());
    this.differences = this.means.slice(METRICS.length).map(() => new ConfidenceSequence({ lowest: -1, highest: 1 }));
  }

  /** Takes the scores of one sample, one a variant; in any order, each sample once. */
  add(sampleIndex: number, scores: readonly MetricScores[]): void {
    this.table.add(sampleIndex, scores);
  }

  /** Summarizes the samples that it has when the work begins; more may come while it goes on. */
  *summarize({ resampleCount, flipCount }: Effort): Work<RunSummary> {
    const { labels, seed } = this;
    const meter = new WorkMeter();
    const indexes = this.table.scoredIndexes();
    const looks = yield* this.look(meter);
    if (indexes.length === 0) {
      return { sampleCount: 0, variants: labels.map((label) => ({ label, metrics: [] })), comparisons: [] };
    }
    const columns = yield* this.columns('fmeasure', indexes, meter);
    const precisions = yield* mapped(yield* this.columns('precision', indexes, meter), meanOf, meter);
    const recalls = yield* mapped(yield* this.columns('recall', indexes, meter), meanOf, meter);
    const means = yield* mapped(columns, meanOf, meter);
    const minusBaseline = (candidate: Column, line: number): Column => {
      const baseline = columns[line % METRICS.length] as Column;
      return candidate.map((value, sample) => value - (baseline[sample] as number));
    };
    const differences = yield* mapped(columns.slice(METRICS.length), minusBaseline, meter);
    const intervals = yield* bootstrapMeans([...columns, ...differences], { seed, resampleCount }, meter);
    const tests: RandomizationTest[] = [];
    for (const column of differences) tests.push(yield* pairedRandomization(column, { seed, flipCount }, meter));
    const metrics = means.map(
      (mean, line): MetricStatistics => ({
        metric: METRICS[line % METRICS.length] as Metric,
        mean,
        precision: precisions[line] as number,
        recall: recalls[line] as number,
        interval: intervals[line] as Interval,
        anytimeInterval: looks.means[line] as Interval,
      }),
    );
    const comparisons = this.comparisons(tests, {
      meanDifferences: yield* mapped(differences, meanOf, meter),
      outcomes: yield* mapped(differences, countOutcomes, meter),
      intervals: intervals.slice(columns.length),
      anytimeIntervals: looks.differences,
    });
    const variants = labels.map((label, variant) => {
      const first = variant * METRICS.length;
      return { label, metrics: metrics.slice(first, first + METRICS.length) };
    });
    return { sampleCount: indexes.length, variants, comparisons };
  }

  /** Looks at each sample that has come since the last look, up to the first gap. */
  private *look(meter: WorkMeter): Work<Looks> {
    const { table } = this;
    const { prefixLength } = table;
    for (const [column, mean] of this.means.entries()) {
      const difference = this.differences[column - METRICS.length];
      while (mean.count < prefixLength) {
        const value = table.fmeasure(mean.count, column);
        difference?.add(value - table.fmeasure(mean.count, column % METRICS.length));
        mean.add(value);
        if (meter.spend(LOOK_STEPS + 2 * mean.count)) yield;
      }
    }
    const interval = (sequence: ConfidenceSequence): Interval => sequence.interval;
    return { means: this.means.map(interval), differences: this.differences.map(interval) };
  }

  private *columns(part: ScorePart, indexes: Uint32Array, meter: WorkMeter): Work<readonly Column[]> {
    const columns: Column[] = [];
    for (let column = 0; column < this.table.columnCount; column++) {
      columns.push(this.table.column(column, part, indexes));
      if (meter.spend(VALUE_STEPS * indexes.length)) yield;
    }
    return columns;
  }

  private comparisons(tests: readonly RandomizationTest[], of: Differences): readonly ComparisonStatistics[] {
    const adjusted = holmAdjusted(tests.map(({ pValue }) => pValue));
    return tests.map((test, line) => ({
      metric: METRICS[line % METRICS.length] as Metric,
      baseline: this.labels[0] as string,
      candidate: this.labels[1 + Math.floor(line / METRICS.length)] as string,
      meanDifference: of.meanDifferences[line] as number,
      interval: of.intervals[line] as Interval,
      anytimeInterval: of.anytimeIntervals[line] as Interval,
      pValue: adjusted[line] as number,
      unadjustedPValue: test.pValue,
      test: testName(test, tests.length),
      ...(of.outcomes[line] as Outcomes),
    }));
  }
}

function* mapped<T>(
  columns: readonly Column[],
  map: (column: Column, line: number) => T,
  meter: WorkMeter,
): Work<readonly T[]> {
  const results: T[] = [];
  for (const [line, column] of columns.entries()) {
    results.push(map(column, line));
    if (meter.spend(VALUE_STEPS * column.length)) yield;
  }
  return results;
}

function testName({ exact, patternCount }: RandomizationTest, comparisonCount: number): string {
  const kind = exact ? 'exact paired randomization' : 'paired approximate randomization';
  const patterns = `${exact ? 'all ' : ''}${patternCount} sign patterns`;
  return `${kind}, two-sided, ${patterns}, Holm over ${comparisonCount} comparisons`;
}

function meanOf(column: Column): number {
  return column.reduce((sum, value) => sum + value, 0) / column.length;
}
