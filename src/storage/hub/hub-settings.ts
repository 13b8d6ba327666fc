/** Where the hub is, and where what came from it is kept: the environment's HF_… variables as Hugging Face reads them. */
export interface HubSettings {
  /** HF_HUB_CACHE: the folder of `models--OWNER--NAME`. */
  readonly cacheDir: string;
  /** HF_ENDPOINT, without a slash at its end. */
  readonly endpoint: string;
  /** HF_TOKEN. Never printed. */
  readonly token: string | undefined;
  /** Has the token where HF_TOKEN is not set; need not exist. */
  readonly tokenFile: string;
  /** HF_HUB_OFFLINE: no request is made. */
  readonly offline: boolean;
}

/** Time, passed in, so that tests need not wait. */
export interface HubClock {
  /** Calls `run` once after `delayMs`; the returned function takes it back. */
  after(delayMs: number, run: () => void): () => void;
}

/** Resolves after `delayMs`; rejects with the signal's reason as soon as that is aborted. */
export function pause(clock: HubClock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const stop = (): void => {
      cancel();
      reject(signal.reason);
    };
    const cancel = clock.after(delayMs, () => {
      signal.removeEventListener('abort', stop);
      resolve();
    });
    signal.addEventListener('abort', stop, { once: true });
  });
}
