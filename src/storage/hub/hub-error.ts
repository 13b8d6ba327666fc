export interface HubErrorDetails {
  /** Whether the same request may succeed a little later. */
  readonly mayPass?: boolean;
  /** When the hub says to come back. */
  readonly retryAfterMs?: number;
}

/** What keeps a repository of the hub from being used: what was expected, what came, what to do. */
export class HubError extends Error {
  override readonly name = 'HubError';

  constructor(
    /**
     * name: the caller's name for it is not allowed or not enough. missing: the hub has no such thing. invalid: it is
     * there, and of no use here. denied: the hub wants a token, or terms to be accepted. download: it cannot be fetched.
     */
    readonly reason: 'name' | 'missing' | 'invalid' | 'denied' | 'download',
    message: string,
    readonly details: HubErrorDetails = {},
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}
