/** Tries again what may succeed a little later, a bounded number of times. */
import { HubError } from './hub-error.ts';
import type { HubAnswer } from './hub-http.ts';
import { type HubClock, pause } from './hub-settings.ts';

const COME_BACK: readonly number[] = [408, 429, 500, 502, 503, 504];
const WAITS_MS: readonly number[] = [1000, 2000, 4000, 8000];
const LONGEST_WAIT_MS = 60_000;

export interface RetryOptions {
  readonly clock: HubClock;
  readonly signal: AbortSignal;
  /** Default: one more than there are waits. */
  readonly attempts?: number;
}

/** Works until it succeeds, fails for good, or has been tried often enough. `again` begins to count anew. */
export async function retrying<T>(
  { clock, signal, attempts = WAITS_MS.length + 1 }: RetryOptions,
  work: (again: () => void) => Promise<T>,
): Promise<T> {
  let failures = 0;
  const again = (): void => {
    failures = 0;
  };
  for (;;) {
    try {
      return await work(again);
    } catch (error) {
      if (!(error instanceof HubError) || !error.details.mayPass || ++failures >= attempts) throw error;
      await pause(clock, waitOf(error, failures), signal);
    }
  }
}

function waitOf({ details }: HubError, failures: number): number {
  const own = WAITS_MS[Math.min(failures, WAITS_MS.length) - 1] ?? 0;
  return Math.min(details.retryAfterMs ?? own, LONGEST_WAIT_MS);
}

/** Throws where the hub says to come back. */
export function checkComeBack({ status, headers }: HubAnswer, what: string): void {
  if (!COME_BACK.includes(status)) return;
  const message = `Expected the hub to answer for ${what}, it is busy or broken (status ${status}). Try again later.`;
  const seconds = headers.get('retry-after');
  const isNumber = seconds !== null && /^\d{1,6}$/.test(seconds);
  throw new HubError('download', message, {
    mayPass: true,
    ...(isNumber ? { retryAfterMs: 1000 * Number(seconds) } : {}),
  });
}
