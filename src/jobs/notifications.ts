/**
 * One listening connection for all who wait for something. A notification is only a hint to look again: hints are lost
 * when the connection breaks, so every waiter is called when it is there again.
 */
import type { Clock } from '../runtime/engine/clock.ts';
import type { Database } from '../storage/database.ts';

interface NotificationsOptions {
  readonly clock: Clock;
  /** Hears of lost connections; they are made again. */
  readonly onError: (error: unknown) => void;
}

const RECONNECT_MS = 1000;

export class Notifications {
  private readonly waiters = new Map<string, Set<() => void>>();
  private stop: () => void | Promise<void> = () => {};
  private closed = false;

  private constructor(
    private readonly database: Database,
    private readonly options: NotificationsOptions,
  ) {}

  /** Resolves when it listens: from then on hints come. */
  static async open(database: Database, options: NotificationsOptions): Promise<Notifications> {
    const notifications = new Notifications(database, options);
    await notifications.listen();
    return notifications;
  }

  /** Calls `onHint` whenever something may have happened to `topic`; the returned function ends it. */
  subscribe(topic: string, onHint: () => void): () => void {
    // a function of its own, so that who subscribes twice is called twice
    const waiter = (): void => onHint();
    const waiters = this.waiters.get(topic) ?? new Set();
    this.waiters.set(topic, waiters.add(waiter));
    return () => {
      waiters.delete(waiter);
      if (waiters.size === 0 && this.waiters.get(topic) === waiters) this.waiters.delete(topic);
    };
  }

  async close(): Promise<void> {
    this.closed = true;
    await this.stop();
  }

  private async listen(): Promise<void> {
    this.stop = await this.database.listen({
      onPayload: (topic) => this.hint(topic),
      onLost: (error) => this.reconnectLater(error),
    });
    if (this.closed) await this.stop();
  }

  private reconnectLater(error: unknown): void {
    if (this.closed) return;
    this.options.onError(error);
    this.stop = this.options.clock.after(RECONNECT_MS, () => {
      this.listen().then(
        () => {
          for (const topic of [...this.waiters.keys()]) this.hint(topic);
        },
        (failure: unknown) => this.reconnectLater(failure),
      );
    });
  }

  private hint(topic: string): void {
    for (const waiter of [...(this.waiters.get(topic) ?? [])]) waiter();
  }
}
