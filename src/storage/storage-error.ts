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
