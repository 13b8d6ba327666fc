import assert from 'node:assert/strict';
import { test } from 'node:test';
import { holmAdjusted } from '../../../src/evaluation/statistics/holm.ts';
import { oracleTest, readJsonFile } from '../../support/oracle.ts';

function assertAdjusted(pValues: readonly number[], expected: readonly number[]): void {
  const adjusted = holmAdjusted(pValues);
  assert.equal(adjusted.length, expected.length);
  for (const [index, value] of expected.entries()) {
    assert.ok(Math.abs((adjusted[index] ?? Number.NaN) - value) <= 1e-12, `[${pValues}] gave [${adjusted}]`);
  }
}

test('the smallest counts m times, the next m - 1 times, none less than a smaller one, none above 1', () => {
  assertAdjusted([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]);
  assertAdjusted([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]);
  assertAdjusted([0.9, 0.8, 0.7], [1, 1, 1]);
  assertAdjusted([0.3, 0, 1], [0.6, 0, 1]);
});

test('one p-value stays as it is, none gives none', () => {
  assertAdjusted([0.04], [0.04]);
  assertAdjusted([], []);
});

test('each p-value keeps its adjusted one when their order changes', () => {
  const pValues = [0.2, 0.001, 0.04, 0.013, 0.6];
  const adjusted = holmAdjusted(pValues);
  assert.deepEqual(holmAdjusted([...pValues].reverse()), [...adjusted].reverse());
});

oracleTest("the oracle's p-values", 'oracle/statistics/statistics.json', (path) => {
  interface Case {
    readonly pValues: readonly number[];
    readonly adjusted: readonly number[];
  }
  for (const one of readJsonFile<{ readonly holm: readonly Case[] }>(path).holm) {
    assertAdjusted(one.pValues, one.adjusted);
  }
});
