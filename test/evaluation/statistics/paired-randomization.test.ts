import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  countOutcomes,
  pairedRandomization,
  type RandomizationTest,
} from '../../../src/evaluation/statistics/paired-randomization.ts';
import { finish, WorkMeter } from '../../../src/evaluation/work.ts';
import { oracleTest, readJsonFile } from '../../support/oracle.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const FLIPS = 10_000;

function run(differences: readonly number[], seed = 1): RandomizationTest {
  const settings = { seed, flipCount: FLIPS };
  return finish(pairedRandomization(Float64Array.from(differences), settings, new WorkMeter()));
}

/** The definition, sign by sign. */
function shareOfPatterns(differences: readonly number[]): number {
  const observed = Math.abs(differences.reduce((sum, difference) => sum + difference, 0));
  let count = 0;
  for (let pattern = 0; pattern < 2 ** differences.length; pattern++) {
    const sum = differences.reduce((total, d, index) => total + ((pattern >> index) & 1 ? d : -d), 0);
    if (Math.abs(sum) >= observed - 1e-9) count++;
  }
  return count / 2 ** differences.length;
}

function randomDifferences(count: number, shift: number, seed: number): readonly number[] {
  const random = seededNumbers(seed);
  return Array.from({ length: count }, () => random() - random() + shift);
}

test('few differences: the share of all sign patterns', () => {
  assert.deepEqual(run([0.1, 0.2, 0.3]), { pValue: 0.25, patternCount: 8, exact: true });
  // |±1 ±2 ±4| ≥ 3 under six of eight patterns, and under their negatives
  assert.equal(run([1, -2, 4]).pValue, 0.75);
  for (let count = 1; count <= 14; count++) {
    const differences = randomDifferences(count, 0.2, count);
    assert.equal(run(differences).pValue, shareOfPatterns(differences), `${count} differences`);
  }
});

test('sums that are equal but for rounding count as equal', () => {
  // 0.1 + 0.2 + 0.3 - 0.6 is not 0 in floating point; in tenths it is
  const tenths = [0.1, 0.2, 0.3, -0.6, 0.7];
  assert.equal(run(tenths).pValue, run([1, 2, 3, -6, 7]).pValue);
  assert.equal(run([0.7, -0.6, 0.3, 0.2, 0.1]).pValue, run(tenths).pValue);
});

test('no difference at all: p is 1, also of a single pair and of none', () => {
  for (const count of [0, 1, 6, 1500]) assert.equal(run(new Array(count).fill(0)).pValue, 1);
  assert.equal(run([0.4]).pValue, 1);
});

test('ties change nothing but the count of ties', () => {
  const differences = randomDifferences(10, 0.2, 5);
  const withTies = differences.flatMap((difference) => [0, difference, -0]);
  assert.deepEqual(run(withTies), run(differences));
  assert.deepEqual(countOutcomes(Float64Array.of(0.1, 0, -0, -0.2, 0.3)), { wins: 2, losses: 1, ties: 2 });
});

test('many differences: a seeded share near that of the normal distribution', () => {
  const differences = randomDifferences(400, 0.045, 8);
  const z = Math.abs(differences.reduce((sum, d) => sum + d, 0)) / Math.hypot(...differences);
  assert.ok(z > 1.5 && z < 3, `seed 8: ${z}`);
  const result = run(differences);
  assert.deepEqual([result.exact, result.patternCount], [false, FLIPS]);
  assert.ok(Number.isInteger(Math.round(result.pValue * (FLIPS + 1) * 1e6) / 1e6), `${result.pValue}`);
  const expected = 2 * (1 - normalShareBelow(z));
  const error = 4 * Math.sqrt((expected * (1 - expected)) / FLIPS) + 0.002;
  assert.ok(Math.abs(result.pValue - expected) < error, `${result.pValue}, expected ${expected}`);
  assert.deepEqual(run(differences), result);
  assert.notEqual(run(differences, 2).pValue, result.pValue);
});

/** By Simpson's rule. */
function normalShareBelow(z: number): number {
  const density = (x: number): number => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  const [steps, width] = [200, z / 200];
  let sum = density(0) + density(z);
  for (let step = 1; step < steps; step++) sum += (step % 2 === 0 ? 2 : 4) * density(step * width);
  return 0.5 + (sum * width) / 3;
}

test('swapping the variants or scaling the differences leaves p as it is', () => {
  const differences = randomDifferences(100, 0.05, 9);
  const { pValue } = run(differences);
  assert.equal(run(differences.map((difference) => -difference)).pValue, pValue);
  assert.equal(run(differences.map((difference) => difference / 2)).pValue, pValue);
});

test('an overwhelming difference has the least p that so many draws can show, never 0', () => {
  assert.equal(run(new Array(200).fill(0.1)).pValue, 1 / (FLIPS + 1));
});

test('without a difference p is below 0.05 in about 5 of 100 runs', () => {
  const random = seededNumbers(10);
  let below = 0;
  for (let index = 0; index < 400; index++) {
    const differences = Float64Array.from({ length: 30 }, () => random() - random());
    const settings = { seed: index, flipCount: 400 };
    if (finish(pairedRandomization(differences, settings, new WorkMeter())).pValue <= 0.05) below++;
  }
  // four standard errors
  assert.ok(Math.abs(below - 20) <= 18, `seed 10: ${below} of 400`);
});

oracleTest("the oracle's p-values", 'oracle/statistics/statistics.json', (path) => {
  interface Case {
    readonly name: string;
    readonly differences: readonly number[];
    readonly method: 'EXACT' | 'MONTE_CARLO';
    readonly pValue: number;
    readonly exactPValue?: number;
    readonly standardErrorOfP?: number;
    readonly wins: number;
    readonly losses: number;
    readonly ties: number;
  }
  for (const one of readJsonFile<{ readonly signFlip: readonly Case[] }>(path).signFlip) {
    const { pValue, exact } = run(one.differences);
    const expected = one.exactPValue ?? one.pValue;
    const sampled = 4 * Math.sqrt((expected * (1 - expected)) / FLIPS) + 4 * (one.standardErrorOfP ?? 0);
    assert.equal(exact, one.method === 'EXACT', one.name);
    const tolerance = exact ? 1e-12 : sampled;
    assert.ok(Math.abs(pValue - expected) <= tolerance, `${one.name}: ${pValue}, expected ${expected}`);
    const { wins, losses, ties } = one;
    assert.deepEqual(countOutcomes(Float64Array.from(one.differences)), { wins, losses, ties }, one.name);
  }
});
