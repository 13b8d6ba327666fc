/** How long a connection may be silent. */
import { HubError } from './hub-error.ts';
import type { HubClock } from './hub-settings.ts';

/** Before the headers, and between two pieces of a body. */
const PATIENCE_MS = 30_000;

/** Aborts when nothing has come for a while, or when the caller's signal says so. */
export class Silence {
  private readonly controller = new AbortController();
  private timedOut = false;
  private cancel: () => void = () => {};

  constructor(
    private readonly clock: HubClock,
    private readonly outer: AbortSignal,
  ) {
    outer.throwIfAborted();
    outer.addEventListener('abort', this.stop, { once: true });
    this.broken();
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** Something came. */
  broken(): void {
    this.cancel();
    this.cancel = this.clock.after(PATIENCE_MS, () => {
      this.timedOut = true;
      this.controller.abort();
    });
  }

  /** Lets the connection go, whatever is still on its way. */
  close(): void {
    this.cancel();
    this.outer.removeEventListener('abort', this.stop);
    this.controller.abort();
  }

  errorOf(cause: unknown, { host }: URL): unknown {
    if (this.outer.aborted) return this.outer.reason;
    if (cause instanceof HubError) return cause;
    if (this.timedOut) {
      const message = `Expected ${host} to send something within ${PATIENCE_MS / 1000} s, nothing came. Try again later.`;
      return new HubError('download', message, { mayPass: true }, { cause });
    }
    const message = `Expected ${host} to be reached, the connection failed (${causeOf(cause)}). Check the network and HF_ENDPOINT, then try again.`;
    return new HubError('download', message, { mayPass: true }, { cause });
  }

  private readonly stop = (): void => this.controller.abort();
}

function causeOf(error: unknown): string {
  const inner = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const code = (inner as NodeJS.ErrnoException).code;
  return code ?? (inner instanceof Error ? inner.message : String(inner));
}
