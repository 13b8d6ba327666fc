/** Tells a database that does not answer any more from one that answers with an error. */
import { StorageError } from './storage-error.ts';

export class DatabaseLost extends StorageError {
  constructor(
    message: string,
    /** Whether it may be there again without a new start of this process. */
    readonly passes: boolean,
    options?: { cause?: unknown },
  ) {
    super('invalid', message, options);
  }
}

/** Errors of PostgreSQL with which a session ends, or does not begin. */
const ENDINGS: ReadonlySet<unknown> = new Set(['FATAL', 'PANIC']);
/** The same by code, where a server speaks another language (https://www.postgresql.org/docs/current/errcodes-appendix.html). */
const SQL_STATES = /^(08\w{3}|57P0\w|53300)$/;
const SYSTEM_CODES: ReadonlySet<unknown> = new Set([
  'ECONNABORTED',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EPIPE',
  'ETIMEDOUT',
]);
/** Of `pg` and its pool, whose own errors have no codes. */
const DRIVER_MESSAGES =
  /^(Connection terminated|Client (has encountered a connection error|was closed) and is not queryable|Cannot use a pool after calling end|timeout exceeded when trying to connect|timeout expired)/;

/** The loss of the database that an error tells of, however it is wrapped; undefined when it tells of something else. */
export function databaseLossOf(error: unknown): DatabaseLost | undefined {
  if (error instanceof DatabaseLost) return error;
  if (!(error instanceof Error)) return undefined;
  if (isLoss(error)) {
    const message =
      'Expected a database that answers, the connection to it is lost. Send it again; if that does not help, see whether the PostgreSQL of DATABASE_URL runs.';
    return new DatabaseLost(message, true, { cause: error });
  }
  // several addresses of one name fail as one error
  const inner = error instanceof AggregateError ? error.errors[0] : error.cause;
  return databaseLossOf(inner);
}

function isLoss(error: Error): boolean {
  const { code, severity } = error as NodeJS.ErrnoException & { readonly severity?: unknown };
  return (
    ENDINGS.has(severity) ||
    SYSTEM_CODES.has(code) ||
    SQL_STATES.test(code ?? '') ||
    DRIVER_MESSAGES.test(error.message)
  );
}
