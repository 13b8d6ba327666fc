import assert from 'node:assert/strict';
import { test } from 'node:test';
import { memoryTrend } from '../../src/bench/memory-trend.ts';

const SAMPLE_MS = 5000;
const MINUTE_MS = 60_000;

/** A sample every five seconds, from 1 s to `minutes` later. */
function samples(minutes: number, bytesAt: (minute: number) => number) {
  const count = (minutes * MINUTE_MS) / SAMPLE_MS + 1;
  return Array.from({ length: count }, (_, index) => ({
    atMs: 1000 + index * SAMPLE_MS,
    bytes: bytesAt((index * SAMPLE_MS) / MINUTE_MS),
  }));
}

function assertNear(came: number | undefined, expected: number): void {
  assert.ok(came !== undefined && Math.abs(came - expected) < 1e-6, `${came}, expected ${expected}`);
}

test('memory that stays has no slope', () => {
  const trend = memoryTrend(samples(10, () => 500));
  assert.deepEqual(trend, { partMs: MINUTE_MS, firstMeanBytes: 500, lastMeanBytes: 500, bytesPerMinute: 0 });
});

test('a slope is that of what comes after the first minute', () => {
  const growing = memoryTrend(samples(10, (minute) => 100 + 7 * minute));
  assertNear(growing?.bytesPerMinute, 7);
  assertNear(growing?.firstMeanBytes, 100 + 7 * 0.5);
  assertNear(growing?.lastMeanBytes, 100 + 7 * 9.5);
  const warmingUp = memoryTrend(samples(10, (minute) => Math.min(minute, 1) * 100));
  assertNear(warmingUp?.bytesPerMinute, 0);
  assertNear(warmingUp?.lastMeanBytes, 100);
  assert.ok((warmingUp?.firstMeanBytes ?? 0) < 60);
});

test('a run shorter than two minutes is compared by halves', () => {
  const trend = memoryTrend(samples(1, (minute) => (minute < 0.5 ? 10 : 20)));
  assert.equal(trend?.partMs, MINUTE_MS / 2);
  assertNear(trend?.lastMeanBytes, 20);
  assertNear(trend?.bytesPerMinute, 0);
});

test('a single sample has no trend', () => {
  assert.equal(memoryTrend([]), undefined);
  assert.equal(memoryTrend(samples(0, () => 1)), undefined);
});
