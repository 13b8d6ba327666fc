/** When a model's worker that ended is started again, and when no more. Knows neither workers nor timers. */

export interface RestartRules {
  /** Milliseconds from the first failure to the next start; each further failure in a row doubles them. */
  readonly firstDelayMs: number;
  readonly longestDelayMs: number;
  /** Failures in a row after which the worker is given up. */
  readonly mostFailures: number;
  /** Milliseconds of life after which a worker's end is a first failure again. */
  readonly stableMs: number;
}

/** Seven restarts within a good minute, 0.5 s to 30 s apart: what lasts longer does not pass by itself. */
export const defaultRestartRules: RestartRules = {
  firstDelayMs: 500,
  longestDelayMs: 30_000,
  mostFailures: 8,
  stableMs: 60_000,
};

export class RestartPolicy {
  private failures = 0;
  private readyAt: number | undefined;

  constructor(
    private readonly rules: RestartRules,
    /** Milliseconds of a monotonic clock. */
    private readonly now: () => number,
  ) {}

  /** Failures in a row, the last one included. */
  get failureCount(): number {
    return this.failures;
  }

  /** A worker is in service. */
  started(): void {
    this.readyAt = this.now();
  }

  /** A worker ended or could not be started: the milliseconds until the next start; undefined: it is given up. */
  failed(): number | undefined {
    const { firstDelayMs, longestDelayMs, mostFailures, stableMs } = this.rules;
    if (this.readyAt !== undefined && this.now() - this.readyAt >= stableMs) this.failures = 0;
    this.readyAt = undefined;
    this.failures++;
    if (this.failures >= mostFailures) return undefined;
    return Math.min(firstDelayMs * 2 ** (this.failures - 1), longestDelayMs);
  }
}
