/** Batches by length: each sample once an epoch, similar lengths together, and the same again for the same seed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BatchPlan, type SampleLengths, stepsOfEpoch } from '../../../src/training/samples/batch-plan.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

function samplesOf(count: number, seed = 1): SampleLengths {
  const next = seededNumbers(seed);
  const lengths = Array.from({ length: count }, () => [1 + Math.floor(next() * 500), 1 + Math.floor(next() * 60)]);
  return {
    count,
    inputLength: (sample) => lengths[sample]?.[0] ?? 0,
    targetLength: (sample) => lengths[sample]?.[1] ?? 0,
  };
}

function epochOf(plan: BatchPlan, epoch: number): readonly (readonly number[])[][] {
  const first = epoch * plan.stepsPerEpoch;
  return Array.from({ length: plan.stepsPerEpoch }, (_, step) =>
    plan.step(first + step).map((batch) => Array.from(batch)),
  );
}

for (const [count, batchSize, gradientAccumulation] of [
  [1, 8, 1],
  [7, 2, 3],
  [64, 8, 1],
  [1003, 8, 4],
] as const) {
  test(`${count} samples in batches of ${batchSize}, ${gradientAccumulation} a step: each comes once an epoch`, () => {
    const plan = new BatchPlan(samplesOf(count), { batchSize, gradientAccumulation, seed: 3 });
    assert.equal(plan.stepsPerEpoch, Math.ceil(Math.ceil(count / batchSize) / gradientAccumulation));
    for (const epoch of [0, 1, 5]) {
      const steps = epochOf(plan, epoch);
      assert.ok(steps.every((step) => step.length >= 1 && step.length <= gradientAccumulation));
      assert.ok(steps.flat().every((batch) => batch.length >= 1 && batch.length <= batchSize));
      const all = steps.flat(2).sort((left, right) => left - right);
      assert.deepEqual(all, [...Array(count).keys()]);
    }
  });
}

test('a plan is a function of seed and step: asked in any order, by a new process', () => {
  const settings = { batchSize: 4, gradientAccumulation: 2, seed: 9 };
  const plan = new BatchPlan(samplesOf(200), settings);
  const ahead = epochOf(plan, 2);
  const other = new BatchPlan(samplesOf(200), settings);
  assert.deepEqual(epochOf(other, 2), ahead);
  assert.notDeepEqual(epochOf(other, 1), ahead);
  assert.notDeepEqual(epochOf(new BatchPlan(samplesOf(200), { ...settings, seed: 10 }), 2), ahead);
});

test('similar lengths come together: padding is a small part of that of a random order', () => {
  const samples = samplesOf(2000);
  const padding = (batches: readonly (readonly number[])[]): number => {
    let sum = 0;
    for (const batch of batches) {
      const longest = Math.max(...batch.map((sample) => samples.inputLength(sample)));
      for (const sample of batch) sum += longest - samples.inputLength(sample);
    }
    return sum;
  };
  const plan = new BatchPlan(samples, { batchSize: 8, gradientAccumulation: 1, seed: 1 });
  const grouped = epochOf(plan, 0).flat();
  const inOrder = Array.from({ length: 250 }, (_, batch) => Array.from({ length: 8 }, (_item, at) => 8 * batch + at));
  assert.ok(padding(grouped) < 0.15 * padding(inOrder), `${padding(grouped)} of ${padding(inOrder)}`);
  // and long batches come anywhere, not at the end
  const means = grouped.map((batch) => samples.inputLength(batch[0] as number));
  const half = means.length / 2;
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  assert.ok(Math.abs(mean(means.slice(0, half)) - mean(means.slice(half))) < 60);
});

test('steps of an epoch', () => {
  assert.equal(stepsOfEpoch(12_460, { batchSize: 8, gradientAccumulation: 1, seed: 0 }), 1558);
});
