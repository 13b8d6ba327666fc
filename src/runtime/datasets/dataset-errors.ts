/** Gives what storage says of datasets its public code. */
import { StorageError } from '../../storage/storage-error.ts';
import { RuntimeError } from '../errors.ts';

const STORAGE_CODES = { missing: 'NOT_FOUND', invalid: 'INVALID_DATASET', name: 'BAD_USER_INPUT' } as const;

/** Returns the RuntimeError of a StorageError, and everything else as it is. */
export function toDatasetError(cause: unknown): unknown {
  if (!(cause instanceof StorageError)) return cause;
  const details = cause.reason === 'invalid' ? {} : { argument: 'dataset' };
  return new RuntimeError(STORAGE_CODES[cause.reason], cause.message, details, { cause });
}

export async function withDatasetErrors<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw toDatasetError(cause);
  }
}
