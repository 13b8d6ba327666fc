import { RuntimeError } from '../runtime/errors.ts';
import type { StoredRun } from '../storage/run-store.ts';

/** Times in a row that a run is taken up without coming on in between: then it is what ends its process. */
const MOST_FRUITLESS_STARTS = 20;

/** Throws when a run has been taken up again and again and never came on. `items`: what it makes, "samples". */
export function checkFruitful({ fruitlessStarts }: StoredRun, items: string): void {
  if (fruitlessStarts <= MOST_FRUITLESS_STARTS) return;
  const message = `Expected ${items} to be done, but the run was taken up ${MOST_FRUITLESS_STARTS} times and none was, whether its process ended or something failed. See the logs for what did, then start a new run.`;
  throw new RuntimeError('INTERNAL_SERVER_ERROR', message);
}
