/**
 * Percentile bootstrap of means (Efron, Tibshirani 1993, chapter 13): n values are drawn from the n with replacement,
 * B times; the interval goes from the α/2 to the 1 - α/2 quantile of the B means (numpy's linear quantile).
 * Right for one look at the end: looked at again and again while values arrive, such intervals miss far more often.
 */
import type { Work, WorkMeter } from '../work.ts';
import { CONFIDENCE, type Interval } from './interval.ts';
import { RandomWords } from './random-words.ts';

export interface BootstrapSettings {
  readonly seed: number;
  readonly resampleCount: number;
}

/** What drawing an index costs, in steps of the meter. */
const DRAW_STEPS = 2;

/** What a value costs when it is sorted among ten thousand, in steps of the meter. */
const SORT_STEPS = 16;

/** Returns the p-quantile of sorted values: at p·(count - 1), between two values on the line through them. */
export function quantile(sorted: Float64Array, p: number): number {
  const position = p * (sorted.length - 1);
  const below = Math.floor(position);
  const low = sorted[below] as number;
  const high = sorted[Math.min(below + 1, sorted.length - 1)] as number;
  return low + (high - low) * (position - below);
}

/** Draws as many values as there are, with replacement: how often each is drawn. */
function draw(times: Float64Array, words: RandomWords): void {
  // exact below 2^21 values, so that no index is the length; draws are even but for one in 2^11
  const scale = times.length / 2 ** 32;
  times.fill(0);
  for (let count = 0; count < times.length; count++) {
    const index = Math.floor(words.next() * scale);
    times[index] = (times[index] as number) + 1;
  }
}

function weightedSum(values: Float64Array, times: Float64Array): number {
  const { length } = values;
  const even = length - (length % 4);
  // four sums side by side: each addition to one would wait for the last
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  for (let index = 0; index < even; index += 4) {
    s0 += (values[index] as number) * (times[index] as number);
    s1 += (values[index + 1] as number) * (times[index + 1] as number);
    s2 += (values[index + 2] as number) * (times[index + 2] as number);
    s3 += (values[index + 3] as number) * (times[index + 3] as number);
  }
  for (let index = even; index < length; index++) s0 += (values[index] as number) * (times[index] as number);
  return s0 + s1 + (s2 + s3);
}

/**
 * Returns an interval for the mean of each column; columns are equally long, at least one value.
 * A resample draws the same places of all columns, and those that each would draw alone: so the interval of a paired
 * mean difference is that of the column of differences. Places are drawn once and then multiplied with every column,
 * which is twice as fast as gathering the drawn values.
 */
export function* bootstrapMeans(
  columns: readonly Float64Array[],
  { seed, resampleCount }: BootstrapSettings,
  meter: WorkMeter,
): Work<readonly Interval[]> {
  const words = new RandomWords(seed, 'resamples');
  const times = new Float64Array(columns[0]?.length ?? 0);
  const sums = columns.map(() => new Float64Array(resampleCount));
  for (let resample = 0; resample < resampleCount; resample++) {
    draw(times, words);
    if (meter.spend(DRAW_STEPS * times.length)) yield;
    for (const [column, values] of columns.entries()) {
      (sums[column] as Float64Array)[resample] = weightedSum(values, times);
      if (meter.spend(values.length)) yield;
    }
  }
  const tail = (1 - CONFIDENCE) / 2;
  const intervals: Interval[] = [];
  for (const ofColumn of sums) {
    ofColumn.sort();
    const [low, high] = [quantile(ofColumn, tail), quantile(ofColumn, 1 - tail)];
    intervals.push({ low: low / times.length, high: high / times.length, confidence: CONFIDENCE });
    if (meter.spend(SORT_STEPS * resampleCount)) yield;
  }
  return intervals;
}
