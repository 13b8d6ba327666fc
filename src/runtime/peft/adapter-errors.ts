/** The two ways in which an adapter is refused, and how what storage says of its files gets a code. */
import { StorageError } from '../../storage/storage-error.ts';
import { type ErrorDetails, RuntimeError } from '../errors.ts';

/** Its files are broken. */
export function invalidAdapter(message: string): never {
  throw new RuntimeError('INVALID_ADAPTER', message);
}

/** It is well formed, but not for this model or not for this server. */
export function incompatibleAdapter(message: string, details: ErrorDetails = {}): never {
  throw new RuntimeError('INCOMPATIBLE_ADAPTER', message, details);
}

/** Whatever storage finds wrong with an adapter's files makes it INVALID_ADAPTER. */
export async function withAdapterErrors<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof StorageError)) throw cause;
    throw new RuntimeError('INVALID_ADAPTER', cause.message, {}, { cause });
  }
}

/** How many things a message lists. */
const LISTED = 8;

export function listed(things: readonly string[]): string {
  const more = things.length > LISTED ? `, and ${things.length - LISTED} more` : '';
  return things.slice(0, LISTED).join(', ') + more;
}
