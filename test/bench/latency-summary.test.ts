import assert from 'node:assert/strict';
import { test } from 'node:test';
import { summarizeLatencies } from '../../src/bench/latency-summary.ts';
import { seededNumbers } from '../support/seeded-numbers.ts';

test('percentiles are nearest ranks', () => {
  const hundred = Array.from({ length: 100 }, (_, index) => index + 1);
  assert.deepEqual(summarizeLatencies(hundred), { p50Ms: 50, p95Ms: 95, p99Ms: 99 });
  assert.deepEqual(summarizeLatencies([7]), { p50Ms: 7, p95Ms: 7, p99Ms: 7 });
  assert.deepEqual(summarizeLatencies([4, 2]), { p50Ms: 2, p95Ms: 4, p99Ms: 4 });
  assert.equal(summarizeLatencies([]), undefined);
});

test('each percentile was seen, has its share of the values at or below it, and order does not matter', () => {
  const next = seededNumbers(3);
  for (let round = 0; round < 200; round++) {
    const values = Array.from({ length: 1 + Math.floor(next() * 50) }, () => Math.floor(next() * 20));
    const summary = summarizeLatencies(values);
    assert.ok(summary !== undefined);
    for (const [share, value] of [
      [0.5, summary.p50Ms],
      [0.95, summary.p95Ms],
      [0.99, summary.p99Ms],
    ] as const) {
      assert.ok(values.includes(value));
      assert.ok(values.filter((other) => other <= value).length >= share * values.length);
      assert.ok(values.filter((other) => other < value).length < share * values.length);
    }
    assert.deepEqual(summarizeLatencies(values.toReversed()), summary);
  }
});
