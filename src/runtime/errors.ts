/**
 * The one table of what can go wrong, and the error class that carries it.
 * The codes are the public `extensions.code` values; docs/errors.md lists the same table and a test holds both equal.
 */

/** Every code a client can see: what it means and what the client does about it. */
export const errorTable = {
  BAD_USER_INPUT: {
    meaning: 'An argument has a value that is not allowed.',
    action: 'Change the argument that the message names.',
  },
  UNSUPPORTED_ARGUMENT: {
    meaning: 'An argument is given that the model or the chosen decoding strategy cannot honour.',
    action: 'Leave out the argument that `extensions.argument` names, or choose the strategy it belongs to.',
  },
  NOT_FOUND: {
    meaning: 'A model, template or other thing is named that the server does not have.',
    action: 'Use one of the names that the message lists.',
  },
  INPUT_TOO_LONG: {
    meaning: 'The input has more tokens than the model takes.',
    action: 'Shorten it; where the field has `onOverflow`, TRUNCATE cuts it.',
  },
  QUERY_TOO_COSTLY: {
    meaning: 'The document is too deep, has too many aliases, or asks for too many tokens.',
    action: 'Split it into several documents, or lower what `extensions.limit` names.',
  },
  OVERLOADED: {
    meaning: "The queue is full, the model's worker is being started again, or the server is stopping.",
    action: 'Send the same request again after `extensions.retryAfterMs` milliseconds.',
  },
  MODEL_UNAVAILABLE: {
    meaning: "The model's worker ended before it had the answer, or has been given up.",
    action:
      'Send the same request again after `extensions.retryAfterMs` milliseconds; where that is absent, choose another model, or unload it and load it again.',
  },
  INVALID_MODEL: {
    meaning: 'The files of a model are broken, incomplete or of a kind that is not served.',
    action: 'Mend the file that the message names.',
  },
  INVALID_ADAPTER: {
    meaning: 'The files of an adapter are broken, incomplete or not what PEFT writes.',
    action: 'Mend the file that the message names.',
  },
  INCOMPATIBLE_ADAPTER: {
    meaning: 'An adapter is well formed, but this model or this server cannot apply it exactly.',
    action: 'Choose the model that it was made for, or an adapter without what the message names.',
  },
  INVALID_DATASET: {
    meaning: 'The files of a dataset are broken, incomplete or have other columns than it says.',
    action: 'Mend the file and the line that the message names.',
  },
  ACCESS_DENIED: {
    meaning: 'The hub does not let this server read a repository: it is private, or its terms were not accepted.',
    action: 'Set HF_TOKEN on the server, or accept the terms on the page that the message names.',
  },
  DOWNLOAD_FAILED: {
    meaning:
      'Something could not be fetched from the hub: it is out of reach or switched off, sends other bytes than it says, or the disk has no room.',
    action:
      'Do what the message says, or send the same request again after `extensions.retryAfterMs` milliseconds where that is given; what has come is kept.',
  },
  DATABASE_UNAVAILABLE: {
    meaning:
      'The database of runs does not answer: another server has the embedded one, or a PostgreSQL is out of reach.',
    action:
      'Do what the message says, or send the same request again after `extensions.retryAfterMs` milliseconds where that is given; everything else of the server works without it.',
  },
  CONFLICT: {
    meaning: 'The id is taken, or the thing is in use.',
    action: 'Choose another id, or wait until it is free.',
  },
  TIMEOUT: {
    meaning: 'The request did not end before its deadline.',
    action: 'Ask for fewer tokens, or send it again when the server is less busy.',
  },
  INTERNAL_SERVER_ERROR: {
    meaning: 'A fault of the server. The cause is in its log under `extensions.requestId`.',
    action: 'Report the request id.',
  },
} as const satisfies Record<string, { meaning: string; action: string }>;

export type ErrorCode = keyof typeof errorTable;

/** Facts beside the message that a client may branch on. */
export interface ErrorDetails {
  /** Name of the argument or setting at fault, as the client wrote it. */
  readonly argument?: string;
  /** Label of the variant at fault, where several are compared. */
  readonly variant?: string;
  /** The limit that was passed, by the name of its setting. */
  readonly limit?: string;
  /** Milliseconds after which the same request may succeed. */
  readonly retryAfterMs?: number;
}

/** An error with a public code. Its message says what was expected, what came, and what to do. */
export class RuntimeError extends Error {
  override readonly name = 'RuntimeError';

  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly details: ErrorDetails = {},
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** Throws when one of our own assumptions does not hold: a bug, never the caller's fault. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`Broken invariant: ${message}`);
}
