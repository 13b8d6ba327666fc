/** Whether a process grows: its memory at the beginning of a run against that at the end. */

export interface MemorySample {
  readonly atMs: number;
  readonly bytes: number;
}

export interface MemoryTrend {
  /** Length of the first and the last part: a minute, or half of a run shorter than two. */
  readonly partMs: number;
  readonly firstMeanBytes: number;
  readonly lastMeanBytes: number;
  /** Least squares over what comes after the first part, in which caches fill. */
  readonly bytesPerMinute: number;
}

const MINUTE_MS = 60_000;

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}

function slope(samples: readonly MemorySample[]): number {
  const meanMs = mean(samples.map(({ atMs }) => atMs));
  const meanBytes = mean(samples.map(({ bytes }) => bytes));
  const spread = samples.reduce((sum, { atMs }) => sum + (atMs - meanMs) ** 2, 0);
  const together = samples.reduce((sum, { atMs, bytes }) => sum + (atMs - meanMs) * (bytes - meanBytes), 0);
  return spread === 0 ? 0 : together / spread;
}

/** Samples in the order of time; undefined when there are fewer than two. */
export function memoryTrend(samples: readonly MemorySample[]): MemoryTrend | undefined {
  const [first, last] = [samples[0], samples.at(-1)];
  if (first === undefined || last === undefined || first === last) return undefined;
  const partMs = Math.min(MINUTE_MS, (last.atMs - first.atMs) / 2);
  const firstPart = samples.filter(({ atMs }) => atMs <= first.atMs + partMs);
  const lastPart = samples.filter(({ atMs }) => atMs >= last.atMs - partMs);
  const bytesOf = (part: readonly MemorySample[]) => part.map(({ bytes }) => bytes);
  return {
    partMs,
    firstMeanBytes: mean(bytesOf(firstPart)),
    lastMeanBytes: mean(bytesOf(lastPart)),
    bytesPerMinute: slope(samples.filter(({ atMs }) => atMs >= first.atMs + partMs)) * MINUTE_MS,
  };
}
