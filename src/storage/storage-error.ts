/** What is wrong with files on disk: what was expected, what came. The runtime gives it a public code. */
export class StorageError extends Error {
  override readonly name = 'StorageError';

  constructor(
    /** missing: no such thing. invalid: it is there and broken. name: the caller's name for it is not allowed. */
    readonly reason: 'missing' | 'invalid' | 'name',
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** Another process has what only one may have. */
export class TakenError extends StorageError {
  constructor(message: string) {
    super('invalid', message);
  }
}

/** How many names a message lists. */
const LISTED_NAMES = 10;
const QUOTED_LENGTH = 80;
const QUOTED_ITEMS = 8;

/** Returns a value of a hostile file as a message may show it: short whatever its size, flat whatever its depth. */
export function quoted(value: unknown): string {
  if (typeof value === 'string') {
    const cut = value.length > QUOTED_LENGTH;
    return JSON.stringify(cut ? `${value.slice(0, QUOTED_LENGTH)}…` : value);
  }
  if (Array.isArray(value)) {
    const items = value.slice(0, QUOTED_ITEMS).map((item) => (Array.isArray(item) ? 'a list' : quoted(item)));
    return `[${items.join(', ')}${value.length > QUOTED_ITEMS ? ', …' : ''}]`;
  }
  if (typeof value === 'object' && value !== null) return 'an object';
  return value === undefined ? 'nothing' : String(value);
}

/** The first few of many names. */
export function listed(names: readonly string[]): string {
  return `${names.slice(0, LISTED_NAMES).join(', ')}${names.length > LISTED_NAMES ? ', …' : ''}`;
}
