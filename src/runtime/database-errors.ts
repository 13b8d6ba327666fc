/** The loss of the database as an error with a public code. */
import { databaseLossOf } from '../storage/database-lost.ts';
import { RuntimeError } from './errors.ts';
import { RETRY_MS } from './retry.ts';

/** DATABASE_UNAVAILABLE for an error that tells of a lost database; undefined for every other. */
export function databaseErrorOf(error: unknown): RuntimeError | undefined {
  if (error instanceof RuntimeError) return undefined;
  const loss = databaseLossOf(error);
  if (loss === undefined) return undefined;
  const details = loss.passes ? { retryAfterMs: RETRY_MS } : {};
  return new RuntimeError('DATABASE_UNAVAILABLE', loss.message, details, { cause: error });
}
