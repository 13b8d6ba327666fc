/** Percentiles by nearest rank: always a latency that was in fact seen. */

export interface LatencySummary {
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
}

/** Undefined when nothing was measured. */
export function summarizeLatencies(latenciesMs: readonly number[]): LatencySummary | undefined {
  const sorted = latenciesMs.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
  return sorted.length === 0 ? undefined : { p50Ms: at(0.5), p95Ms: at(0.95), p99Ms: at(0.99) };
}
