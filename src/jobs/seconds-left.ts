import type { StoredRun } from '../storage/run-store.ts';

/** How far a run is, in samples or steps. */
export interface RunCounts {
  readonly done: number;
  /** When a process took it up last. */
  readonly atStart: number;
  readonly total: number;
}

/**
 * Estimates what is left of a run, in seconds, at the pace since a process took it up last: what came before may be long
 * ago. Null unless it runs and has come on since.
 */
export function secondsLeft(
  { status, secondsAtWork }: Pick<StoredRun, 'status' | 'secondsAtWork'>,
  { done, atStart, total }: RunCounts,
): number | null {
  if (status !== 'running' || secondsAtWork === null || done <= atStart) return null;
  return (secondsAtWork * (total - done)) / (done - atStart);
}
