/** A clock that stands still until a test moves it. */
import type { Clock } from '../../src/runtime/engine/clock.ts';

interface Alarm {
  readonly at: number;
  readonly run: () => void;
}

export class ManualClock implements Clock {
  private time = 0;
  private readonly alarms = new Set<Alarm>();

  get alarmCount(): number {
    return this.alarms.size;
  }

  now(): number {
    return this.time;
  }

  after(delayMs: number, run: () => void): () => void {
    const alarm = { at: this.time + delayMs, run };
    this.alarms.add(alarm);
    return () => this.alarms.delete(alarm);
  }

  /** Lets time pass, rings what is due, and lets what that led to happen. */
  async advance(ms: number): Promise<void> {
    this.time += ms;
    for (const alarm of [...this.alarms]) {
      if (alarm.at > this.time) continue;
      this.alarms.delete(alarm);
      alarm.run();
    }
    await new Promise(setImmediate);
  }
}
