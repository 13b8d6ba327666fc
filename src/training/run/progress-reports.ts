/** Events on their way to be stored: sent in packets, the next when the last is stored, so that few are on the way. */
import type { TrainingProgress } from './trainer-protocol.ts';

/** Events that may wait before a training waits for them. */
const MOST_WAITING = 1000;

export class ProgressReports {
  private waiting: TrainingProgress[] = [];
  private onTheWay = false;
  private wake: () => void = () => {};
  private changed: Promise<void> = Promise.resolve();

  constructor(private readonly send: (events: readonly TrainingProgress[]) => void) {
    this.renew();
  }

  /** Resolves at once while few events wait. */
  async add(event: TrainingProgress): Promise<void> {
    this.waiting.push(event);
    this.sendNext();
    while (this.waiting.length > MOST_WAITING) await this.changed;
  }

  /** Resolves when everything that was added is stored. */
  async stored(): Promise<void> {
    while (this.onTheWay || this.waiting.length > 0) await this.changed;
  }

  /** What was sent last is stored. */
  acknowledge(): void {
    this.onTheWay = false;
    this.sendNext();
    this.wake();
    this.renew();
  }

  private sendNext(): void {
    if (this.onTheWay || this.waiting.length === 0) return;
    const events = this.waiting;
    this.waiting = [];
    this.onTheWay = true;
    this.send(events);
  }

  private renew(): void {
    this.changed = new Promise((resolve) => {
      this.wake = resolve;
    });
  }
}
