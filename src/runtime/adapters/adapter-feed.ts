/** What happened to adapters, to everyone who listens. */
import { RuntimeError } from '../errors.ts';
import type { AdapterChange } from './served-adapter.ts';

/** Changes that wait for a slow listener; with one more its feed ends. */
export const MOST_WAITING = 256;

interface Listener {
  readonly modelId: string | null;
  readonly waiting: AdapterChange[];
  state: 'open' | 'closed' | 'behind';
  wake: () => void;
}

/**
 * A listener that cannot keep up is told so, with an error, instead of being given less than all: what it shows would
 * be wrong from then on and it would not know.
 */
export class AdapterFeed {
  private readonly listeners = new Set<Listener>();
  private closed = false;

  publish(change: AdapterChange): void {
    for (const listener of this.listeners) {
      if (listener.modelId !== null && listener.modelId !== change.model.id) continue;
      if (listener.waiting.length < MOST_WAITING) listener.waiting.push(change);
      else this.end(listener, 'behind');
      listener.wake();
    }
  }

  /** Hears everything from this call on, not only from the first `next`. */
  listen(modelId: string | null, signal: AbortSignal): AsyncIterable<AdapterChange> {
    const listener: Listener = { modelId, waiting: [], state: 'open', wake: () => {} };
    if (this.closed || signal.aborted) listener.state = 'closed';
    else this.listeners.add(listener);
    const leave = (): void => {
      listener.waiting.length = 0;
      this.end(listener, 'closed');
    };
    signal.addEventListener('abort', leave, { once: true });
    return this.drain(listener, () => signal.removeEventListener('abort', leave));
  }

  /** Ends all feeds, after what waits in them. */
  close(): void {
    this.closed = true;
    for (const listener of this.listeners) this.end(listener, 'closed');
  }

  private end(listener: Listener, state: 'closed' | 'behind'): void {
    this.listeners.delete(listener);
    if (listener.state === 'open') listener.state = state;
    listener.wake();
  }

  private async *drain(listener: Listener, release: () => void): AsyncGenerator<AdapterChange> {
    try {
      for (;;) {
        const change = listener.waiting.shift();
        if (change !== undefined) yield change;
        else if (listener.state === 'behind') throw behind();
        else if (listener.state === 'closed') return;
        else {
          await new Promise<void>((resolve) => {
            listener.wake = resolve;
          });
        }
      }
    } finally {
      release();
      this.end(listener, 'closed');
    }
  }
}

function behind(): RuntimeError {
  const came = `more than ${MOST_WAITING} changes were waiting for it`;
  const advice = 'Subscribe again and read the adapters anew.';
  return new RuntimeError('OVERLOADED', `Expected a reader that keeps up, ${came}. ${advice}`, { retryAfterMs: 0 });
}
