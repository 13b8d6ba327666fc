/** Coverage under peeking, simulated: what the anytime interval keeps and a bootstrap that is repeated does not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bootstrapMeans } from '../../../src/evaluation/statistics/bootstrap.ts';
import { ConfidenceSequence } from '../../../src/evaluation/statistics/confidence-sequence.ts';
import type { Interval } from '../../../src/evaluation/statistics/interval.ts';
import { finish, WorkMeter } from '../../../src/evaluation/work.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const SEED = 41;
const HORIZON = 500;

interface Law {
  readonly mean: number;
  readonly lowest: number;
  draw(random: () => number): number;
}

const SQUARES: Law = { mean: 1 / 3, lowest: 0, draw: (random) => random() ** 2 };
const ONES: Law = { mean: 0.3, lowest: 0, draw: (random) => (random() < 0.3 ? 1 : 0) };
const DIFFERENCES: Law = { mean: 0, lowest: -1, draw: (random) => random() ** 2 - random() ** 2 };

function misses({ low, high }: Interval, { mean }: Law): boolean {
  return mean < low || mean > high;
}

/** Whether the anytime interval, looked at after every value, misses the mean once. */
function anytimeMisses(law: Law, random: () => number): boolean {
  const sequence = new ConfidenceSequence({ lowest: law.lowest, highest: 1 });
  for (let index = 0; index < HORIZON; index++) {
    sequence.add(law.draw(random));
    if (misses(sequence.interval, law)) return true;
  }
  return false;
}

function share(runCount: number, happens: (run: number) => boolean): number {
  let count = 0;
  for (let run = 0; run < runCount; run++) if (happens(run)) count++;
  return count / runCount;
}

test('the anytime interval, looked at after every value, misses the mean in less than 5 of 100 runs', () => {
  for (const [law, runCount] of [
    [SQUARES, 1500],
    [ONES, 600],
    [DIFFERENCES, 600],
  ] as const) {
    const random = seededNumbers(SEED);
    const missed = share(runCount, () => anytimeMisses(law, random));
    assert.ok(missed <= 0.05, `seed ${SEED}, mean ${law.mean}: missed in ${missed}`);
    // were it 0, the interval would be wider than it need be, or not looked at
    assert.ok(missed > 0, `seed ${SEED}, mean ${law.mean}: never missed`);
  }
});

test('a bootstrap interval is right at the end, and misses in a third of the runs when it is looked at 50 times', () => {
  const random = seededNumbers(SEED);
  const runs = Array.from({ length: 150 }, () => Float64Array.from({ length: HORIZON }, () => SQUARES.draw(random)));
  const missesAt = (run: number, count: number): boolean => {
    const column = (runs[run] as Float64Array).subarray(0, count);
    const settings = { seed: run * HORIZON + count, resampleCount: 200 };
    const [interval] = finish(bootstrapMeans([column], settings, new WorkMeter()));
    return misses(interval as Interval, SQUARES);
  };
  const peeking = share(runs.length, (run) => {
    for (let count = 10; count <= HORIZON; count += 10) if (missesAt(run, count)) return true;
    return false;
  });
  const atEnd = share(runs.length, (run) => missesAt(run, HORIZON));
  assert.ok(peeking > 0.3, `seed ${SEED}: missed at some look in ${peeking}`);
  assert.ok(atEnd < 0.1, `seed ${SEED}: missed at the end in ${atEnd}`);
});
