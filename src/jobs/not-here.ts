/**
 * Runs that a process cannot work on, as it has not all that they need. On a shared database another process may have
 * it: a command has models and adapters that servers on its database have not, for one.
 */
import { RuntimeError } from '../runtime/errors.ts';
import type { StoredRun } from '../storage/run-store.ts';
import type { Job } from './queue.ts';

interface EndingParts {
  readonly store: {
    leave(id: string, mostHours: number): Promise<StoredRun | undefined>;
    fail(id: string, error: string): Promise<StoredRun | undefined>;
  };
  /** Whether other processes work on the same runs. */
  readonly isShared: boolean;
}

/** A run that no process comes on with for so long after one left it fails. */
const PATIENCE_HOURS = 24;

/** This process has not all that the run needs, or not as it was; another one may. */
class NotHere extends RuntimeError {
  constructor({ code, message, details, cause }: RuntimeError) {
    super(code, message, details, { cause });
  }
}

/** Opens what a run needs. What is refused then is this process's lack: such a run is left to others. */
export async function openHere<T>(open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    throw error instanceof RuntimeError ? new NotHere(error) : error;
  }
}

/**
 * Fails the run of a job that `error` ended, or leaves it to others. Rejects when the job is to be tried again.
 * `noun`: what such a run is called.
 */
export async function failOrLeave(
  { store, isShared }: EndingParts,
  noun: string,
  { id, signal }: Job,
  error: unknown,
): Promise<void> {
  if (signal.aborted) return;
  // what is nobody's fault, a database out of reach for instance, is tried again
  if (!(error instanceof RuntimeError)) throw error;
  if (error instanceof NotHere && isShared && (await store.leave(id, PATIENCE_HOURS)) !== undefined) {
    throw new Error(`This process leaves ${noun} ${id} to others. ${error.message}`, { cause: error });
  }
  await store.fail(id, error.message);
}
