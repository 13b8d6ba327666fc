import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bootstrapMeans, quantile } from '../../../src/evaluation/statistics/bootstrap.ts';
import type { Interval } from '../../../src/evaluation/statistics/interval.ts';
import { finish, WorkMeter } from '../../../src/evaluation/work.ts';
import { oracleTest, readJsonFile } from '../../support/oracle.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const RESAMPLES = 10_000;

function intervalsOf(columns: readonly (readonly number[])[], seed = 1): readonly Interval[] {
  const settings = { seed, resampleCount: RESAMPLES };
  return finish(
    bootstrapMeans(
      columns.map((column) => Float64Array.from(column)),
      settings,
      new WorkMeter(),
    ),
  );
}

function intervalOf(values: readonly number[], seed = 1): Interval {
  return intervalsOf([values], seed)[0] as Interval;
}

function assertEnds(interval: Interval, [low, high]: readonly [number, number], tolerance: number, name: string): void {
  const text = `${name}: [${interval.low}, ${interval.high}], expected [${low}, ${high}] within ${tolerance}`;
  assert.ok(Math.abs(interval.low - low) <= tolerance && Math.abs(interval.high - high) <= tolerance, text);
}

function randomValues(count: number, seed: number): readonly number[] {
  const random = seededNumbers(seed);
  return Array.from({ length: count }, () => random() ** 2);
}

test('a quantile lies on the line between its neighbours', () => {
  const sorted = Float64Array.of(1, 2, 4, 8);
  assert.equal(quantile(sorted, 0), 1);
  assert.equal(quantile(sorted, 1), 8);
  assert.equal(quantile(sorted, 0.5), 3);
  assert.equal(quantile(sorted, 0.25), 1.75);
  assert.equal(quantile(Float64Array.of(5), 0.3), 5);
});

test('of two values the mean is one of them in a quarter of the resamples each', () => {
  assertEnds(intervalOf([0, 1]), [0, 1], 0, 'two values');
});

test('zeros and ones: the ends are the quantiles of the binomial distribution', () => {
  // Binomial(20, 1/4): P(≤ 1) = 0.0243, P(≤ 2) = 0.0913, P(≤ 8) = 0.9591, P(≤ 9) = 0.9861
  assertEnds(intervalOf(Array.from({ length: 20 }, (_, index) => (index < 5 ? 1 : 0))), [0.1, 0.45], 1e-12, 'binomial');
});

test('equal values and a single one give a point', () => {
  assertEnds(intervalOf(new Array(20).fill(0.25)), [0.25, 0.25], 0, 'equal');
  assertEnds(intervalOf([0.7]), [0.7, 0.7], 1e-15, 'single');
});

test('the interval moves with the values and grows with their scale', () => {
  const values = randomValues(61, 3);
  const { low, high } = intervalOf(values);
  const moved = intervalOf(values.map((value) => 3 * value - 0.5));
  assertEnds(moved, [3 * low - 0.5, 3 * high - 0.5], 1e-12, 'moved');
  const turned = intervalOf(values.map((value) => -value));
  assertEnds(turned, [-high, -low], 1e-12, 'turned');
});

test('a column has the interval that it has alone', () => {
  const columns = [randomValues(50, 4), randomValues(50, 5), randomValues(50, 6)];
  assert.deepEqual(
    intervalsOf(columns),
    columns.map((column) => intervalOf(column)),
  );
});

test('equal seeds give equal intervals, other seeds others that are near', () => {
  const values = randomValues(100, 7);
  const interval = intervalOf(values, 2);
  assert.deepEqual(intervalOf(values, 2), interval);
  const other = intervalOf(values, 3);
  assert.notDeepEqual(other, interval);
  assertEnds(other, [interval.low, interval.high], 0.1 * (interval.high - interval.low), 'other seed');
});

test('long columns are worked on in pieces', () => {
  const values = new Float64Array(3000).fill(0.5);
  let pieces = 0;
  const settings = { seed: 1, resampleCount: 30 };
  const work = bootstrapMeans([values, values], settings, new WorkMeter());
  while (work.next().done !== true) pieces++;
  assert.ok(pieces >= 20, `${pieces} pieces`);
});

oracleTest("the oracle's intervals, within Monte-Carlo error", 'oracle/statistics/statistics.json', (path) => {
  interface Case {
    readonly name: string;
    readonly low: number;
    readonly high: number;
    readonly monteCarloErrorAt10000: number;
  }
  interface Paired extends Case {
    readonly differences: readonly number[];
    readonly exactLow: number;
    readonly exactHigh: number;
  }
  const oracle = readJsonFile<{
    readonly bootstrap: readonly (Case & { readonly values: readonly number[] })[];
    readonly pairedBootstrap: readonly Paired[];
  }>(path);
  for (const { name, values, low, high, monteCarloErrorAt10000 } of oracle.bootstrap) {
    assertEnds(intervalOf(values), [low, high], 4 * monteCarloErrorAt10000, name);
  }
  for (const { name, differences, exactLow, exactHigh, monteCarloErrorAt10000 } of oracle.pairedBootstrap) {
    const cell = 1 / (200 * differences.length);
    assertEnds(intervalOf(differences), [exactLow, exactHigh], 4 * monteCarloErrorAt10000 + cell, name);
  }
});
