/** What may be asked of runs of any kind, and the words in which the rest is refused. */
import { RuntimeError } from '../runtime/errors.ts';
import type { Creation, StoredRun } from '../storage/run-store.ts';

const MAX_KEY_LENGTH = 200;
const MOST_OF_A_PAGE = 500;

/** Throws BAD_USER_INPUT for an idempotency key that cannot be one; null: none. */
export function checkKey(key: string | null): void {
  if (key === null || (key.trim() !== '' && key.length <= MAX_KEY_LENGTH)) return;
  const came = key.trim() === '' ? 'a blank one' : `one of ${key.length}`;
  const message = `Expected an idempotencyKey of 1 to ${MAX_KEY_LENGTH} characters, ${came} came. Shorten it, or leave it out.`;
  throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'idempotencyKey' });
}

/** Throws BAD_USER_INPUT for a page size that cannot be. */
export function checkFirst(first: number): void {
  if (Number.isInteger(first) && first >= 1 && first <= MOST_OF_A_PAGE) return;
  const message = `Expected first to be a whole number from 1 to ${MOST_OF_A_PAGE}, ${first} came. Page with after.`;
  throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'first' });
}

/** The run that was made or found. Throws CONFLICT when its key belongs to another request. */
export function settled<Run extends StoredRun>(noun: string, { outcome, run }: Creation<Run>): Run {
  if (outcome !== 'conflict') return run;
  const message = `Expected a new idempotencyKey, or the request that it came with before: it belongs to ${noun} ${run.id}. Choose another key.`;
  throw new RuntimeError('CONFLICT', message, { argument: 'idempotencyKey' });
}

export function unknownRun(noun: string, id: string): RuntimeError {
  const shown = JSON.stringify(id.slice(0, 100));
  const message = `Expected the id of ${article(noun)}, there is none of ${shown}. See \`${noun}s\`.`;
  return new RuntimeError('NOT_FOUND', message, { argument: 'id' });
}

function article(noun: string): string {
  return `${/^[aeiou]/.test(noun) ? 'an' : 'a'} ${noun}`;
}
