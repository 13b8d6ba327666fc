import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfidenceSequence } from '../../../src/evaluation/statistics/confidence-sequence.ts';
import { holmAdjusted } from '../../../src/evaluation/statistics/holm.ts';
import {
  type Effort,
  FINAL_EFFORT,
  flipsFor,
  RunStatistics,
  type RunSummary,
} from '../../../src/evaluation/statistics/run-statistics.ts';
import { METRICS, type MetricScores } from '../../../src/evaluation/statistics/score-table.ts';
import { finish } from '../../../src/evaluation/work.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

/** Scores of each variant. */
type Sample = readonly MetricScores[];

const EFFORT: Effort = { resampleCount: 500, flipCount: 500 };
const LABELS = ['base', 'adapted', 'blended'];
const SEED = 31;

/** [variant], each a little better than the one before; metrics differ. */
function randomSamples(count: number, seed = SEED): readonly Sample[] {
  const random = seededNumbers(seed);
  const part = (level: number): number => Math.min(1, Math.max(0, level + 0.3 * (random() - random())));
  const score = (level: number) => ({ precision: part(level), recall: part(level), fmeasure: part(level) });
  return Array.from({ length: count }, () =>
    LABELS.map((_, variant) => {
      const level = 0.3 + 0.03 * variant;
      return { rouge1: score(level), rouge2: score(level / 2), rougeL: score(level), rougeLsum: score(level) };
    }),
  );
}

function statisticsOf(samples: readonly Sample[], order: Iterable<number> = samples.keys()): RunStatistics {
  const statistics = new RunStatistics({ labels: LABELS, sampleCount: samples.length });
  for (const index of order) statistics.add(index, samples[index] as Sample);
  return statistics;
}

function summarize(statistics: RunStatistics, effort = EFFORT): RunSummary {
  return finish(statistics.summarize(effort));
}

function shuffled(count: number, seed: number): readonly number[] {
  const random = seededNumbers(seed);
  const keys = Array.from({ length: count }, () => random());
  return [...keys.keys()].sort((one, other) => (keys[one] as number) - (keys[other] as number));
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

test('variants have the means of their scores, comparisons those of the differences from the first', () => {
  const samples = randomSamples(90);
  const { sampleCount, variants, comparisons } = summarize(statisticsOf(samples));
  assert.equal(sampleCount, 90);
  assert.deepEqual(
    variants.map(({ label, metrics }) => [label, ...metrics.map(({ metric }) => metric)]),
    LABELS.map((label) => [label, ...METRICS]),
  );
  for (const [variant, { metrics }] of variants.entries()) {
    for (const { metric, ...found } of metrics) {
      const scores = samples.map((sample) => (sample[variant] as MetricScores)[metric]);
      assert.equal(found.mean, mean(scores.map(({ fmeasure }) => fmeasure)));
      assert.equal(found.precision, mean(scores.map(({ precision }) => precision)));
      assert.equal(found.recall, mean(scores.map(({ recall }) => recall)));
      for (const { low, high } of [found.interval, found.anytimeInterval]) {
        assert.ok(low < found.mean && found.mean < high, `${metric}: ${low}, ${found.mean}, ${high}`);
      }
    }
  }
  assert.deepEqual(
    comparisons.map(({ metric, baseline, candidate }) => [baseline, candidate, metric]),
    LABELS.slice(1).flatMap((candidate) => METRICS.map((metric) => ['base', candidate, metric])),
  );
  for (const { metric, candidate, ...found } of comparisons) {
    const differences = samples.map((sample) => {
      const of = sample[LABELS.indexOf(candidate)] as MetricScores;
      return of[metric].fmeasure - (sample[0] as MetricScores)[metric].fmeasure;
    });
    assert.equal(found.meanDifference, mean(differences));
    assert.equal(found.wins, differences.filter((difference) => difference > 0).length);
    assert.equal(found.wins + found.losses + found.ties, 90);
    assert.ok(found.interval.low < found.meanDifference && found.meanDifference < found.interval.high);
  }
});

test('p-values are adjusted for all comparisons of the run', () => {
  const { comparisons } = summarize(statisticsOf(randomSamples(90)));
  const raw = comparisons.map(({ unadjustedPValue }) => unadjustedPValue);
  assert.deepEqual(
    comparisons.map(({ pValue }) => pValue),
    holmAdjusted(raw),
  );
  assert.ok(Math.min(...raw) < 0.05, `seed ${SEED}: ${raw}`);
  const name = 'paired approximate randomization, two-sided, 500 sign patterns, Holm over 8 comparisons';
  for (const { test } of comparisons) assert.equal(test, name);
  const [few] = summarize(statisticsOf(randomSamples(5))).comparisons;
  assert.match(few?.test ?? '', /^exact paired randomization, two-sided, all 32 sign patterns/);
});

test('however many candidates there are, p-values far below 0.001 are in reach after Holm', () => {
  for (const candidateCount of [1, 7]) {
    const labels = Array.from({ length: 1 + candidateCount }, (_, label) => `${label}`);
    const statistics = new RunStatistics({ labels, sampleCount: 40 });
    const score = (fmeasure: number) => ({ precision: 0, recall: 0, fmeasure });
    const scores = (fmeasure: number): Sample[number] => {
      const same = score(fmeasure);
      return { rouge1: same, rouge2: same, rougeL: same, rougeLsum: same };
    };
    for (let sample = 0; sample < 40; sample++) {
      statistics.add(
        sample,
        labels.map((_, label) => scores(label === 0 ? 0.2 : 0.5)),
      );
    }
    const flipCount = flipsFor(labels.length);
    const { comparisons } = finish(statistics.summarize({ resampleCount: 10, flipCount }));
    assert.equal(comparisons.length, 4 * candidateCount);
    for (const { pValue } of comparisons) assert.ok(pValue <= 0.0004, `${candidateCount}: ${pValue}`);
  }
  assert.deepEqual([1, 2, 8, 32].map(flipsFor), [10_000, 10_000, 70_000, 310_000]);
});

test('equal scores give equal numbers to the last bit in whatever order they come and are looked at', () => {
  const samples = randomSamples(120);
  const expected = summarize(statisticsOf(samples), FINAL_EFFORT);
  const late = new RunStatistics({ labels: LABELS, sampleCount: samples.length });
  for (const [count, index] of shuffled(samples.length, 32).entries()) {
    late.add(index, samples[index] as Sample);
    if (count % 17 === 0) summarize(late, { resampleCount: 10, flipCount: 10 });
  }
  assert.deepEqual(summarize(late, FINAL_EFFORT), expected);
});

test('samples that come while it works are not in the summary', () => {
  const samples = randomSamples(300);
  const early = new RunStatistics({ labels: LABELS, sampleCount: samples.length });
  for (let index = 0; index < 250; index++) early.add(index, samples[index] as Sample);
  const expected = summarize(early);
  const work = early.summarize(EFFORT);
  let step = work.next();
  assert.equal(step.done, false);
  for (let index = 250; index < 300; index++) early.add(index, samples[index] as Sample);
  while (step.done !== true) step = work.next();
  assert.deepEqual(step.value, expected);
});

test('two summaries that are worked on in turn are those that each would be alone', () => {
  const samples = randomSamples(300);
  const statistics = statisticsOf(samples);
  const [one, other] = [statistics.summarize(EFFORT), statistics.summarize(EFFORT)];
  let [oneStep, otherStep] = [one.next(), other.next()];
  while (oneStep.done !== true || otherStep.done !== true) [oneStep, otherStep] = [one.next(), other.next()];
  const expected = summarize(statisticsOf(samples));
  assert.deepEqual([oneStep.value, otherStep.value], [expected, expected]);
});

test('means are over all samples, anytime intervals over those before the first gap', () => {
  const samples = randomSamples(100);
  const order = [...samples.keys()].filter((index) => index !== 60);
  const statistics = statisticsOf(samples, order);
  const { sampleCount, variants } = summarize(statistics);
  assert.equal(sampleCount, 99);
  const column = (indexes: readonly number[]): readonly number[] =>
    indexes.map((index) => samples[index]?.[0]?.rouge1.fmeasure ?? Number.NaN);
  assert.equal(variants[0]?.metrics[0]?.mean, mean(column(order)));
  const sequence = new ConfidenceSequence();
  for (const value of column(order.slice(0, 60))) sequence.add(value);
  assert.deepEqual(variants[0]?.metrics[0]?.anytimeInterval, sequence.interval);
  statistics.add(60, samples[60] as Sample);
  assert.deepEqual(summarize(statistics), summarize(statisticsOf(samples)));
});

test('a candidate with the scores of the baseline is not told from it', () => {
  const samples = randomSamples(40).map(([first]) => [first, first, first] as Sample);
  for (const { meanDifference, interval, pValue, unadjustedPValue, ties, anytimeInterval } of summarize(
    statisticsOf(samples),
  ).comparisons) {
    assert.deepEqual([meanDifference, interval.low, interval.high], [0, 0, 0]);
    assert.deepEqual([pValue, unadjustedPValue, ties], [1, 1, 40]);
    assert.ok(anytimeInterval.low < 0 && anytimeInterval.high > 0);
  }
});

test('one variant has no comparisons, no samples no metrics, one sample points', () => {
  const [sample] = randomSamples(1);
  const alone = new RunStatistics({ labels: ['base'], sampleCount: 2 });
  assert.deepEqual(summarize(alone), { sampleCount: 0, variants: [{ label: 'base', metrics: [] }], comparisons: [] });
  alone.add(1, (sample as Sample).slice(0, 1));
  const { variants, comparisons } = summarize(alone);
  const found = variants[0]?.metrics[0];
  assert.deepEqual(comparisons, []);
  assert.equal(found?.mean, sample?.[0]?.rouge1.fmeasure);
  assert.deepEqual([found?.interval.low, found?.interval.high], [found?.mean, found?.mean]);
  assert.deepEqual([found?.anytimeInterval.low, found?.anytimeInterval.high], [0, 1]);
});

test('a sample that the run does not have, or that it has already, is our own fault', () => {
  const [sample] = randomSamples(1);
  const statistics = statisticsOf([sample as Sample]);
  for (const index of [0, 1, -1, 0.5]) assert.throws(() => statistics.add(index, sample as Sample), /invariant/);
  const two = new RunStatistics({ labels: ['base'], sampleCount: 1 });
  assert.throws(() => two.add(0, sample as Sample), /invariant/);
});
