/** Milliseconds between two turns of an event loop that wants to turn every millisecond: idle, a little above 1. */
import type { IntervalHistogram } from 'node:perf_hooks';

export interface EventLoopDelay {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

const NANOSECONDS = 1e6;

export function describeDelay(histogram: IntervalHistogram): EventLoopDelay {
  return {
    p50Ms: histogram.percentile(50) / NANOSECONDS,
    p99Ms: histogram.percentile(99) / NANOSECONDS,
    maxMs: histogram.max / NANOSECONDS,
  };
}
