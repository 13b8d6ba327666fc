/** The models that a run needs, brought into service, with patience for what passes. */
import { type Clock, waitFor } from '../runtime/engine/clock.ts';
import { type ErrorCode, RuntimeError } from '../runtime/errors.ts';
import type { ModelDirectory, ServedModel } from '../runtime/models/served-model.ts';
import { RETRY_MS } from '../runtime/retry.ts';

interface PatienceOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** When something succeeded last, by the clock. Default: never. */
  readonly lastSuccess?: () => number;
}

/** So long a run waits for models that are overloaded or restarting, with nothing that succeeds meanwhile. */
const PATIENCE_MS = 600_000;
const PASSING: readonly ErrorCode[] = ['OVERLOADED', 'TIMEOUT'];
/** Those that pass where they say when. */
const PASSING_IF_TOLD: readonly ErrorCode[] = ['MODEL_UNAVAILABLE', 'DOWNLOAD_FAILED'];

/** Tries again what may succeed later. Undefined: the signal was aborted. */
export async function patiently<T>(
  work: () => Promise<T>,
  { clock, signal, lastSuccess = () => Number.NEGATIVE_INFINITY }: PatienceOptions,
): Promise<T | undefined> {
  const start = clock.now();
  while (!signal.aborted) {
    try {
      return await work();
    } catch (error) {
      if (signal.aborted) return undefined;
      const waitedMs = clock.now() - Math.max(start, lastSuccess());
      if (!passes(error) || waitedMs > PATIENCE_MS) throw error;
      await waitFor(clock, error.details.retryAfterMs ?? RETRY_MS, signal);
    }
  }
  return undefined;
}

/**
 * The model of that id and source, loaded when it is not in service. Throws OVERLOADED while somebody else loads it,
 * CONFLICT when another has its id.
 */
export async function serveModel(
  models: ModelDirectory,
  { id, source }: { readonly id: string; readonly source: string },
): Promise<ServedModel> {
  const served = models.find(id) ?? (await load(models, { id, source }));
  if (served.source === source) return served;
  const message = `Expected model ${id} to be ${source}, as the run began, ${served.source} has that id now. Start a new run.`;
  throw new RuntimeError('CONFLICT', message);
}

async function load(
  models: ModelDirectory,
  request: { readonly id: string; readonly source: string },
): Promise<ServedModel> {
  try {
    return await models.load(request);
  } catch (error) {
    if (!(error instanceof RuntimeError) || error.code !== 'CONFLICT') throw error;
    // somebody else is loading it
    throw new RuntimeError('OVERLOADED', error.message, { retryAfterMs: RETRY_MS }, { cause: error });
  }
}

/** Whether the same may succeed later. */
function passes(error: unknown): error is RuntimeError {
  if (!(error instanceof RuntimeError)) return false;
  const { code, details } = error;
  return PASSING.includes(code) || (PASSING_IF_TOLD.includes(code) && details.retryAfterMs !== undefined);
}
