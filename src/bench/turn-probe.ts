/**
 * Measures the longest turn of this thread's event loop in processor time, which other processes on the machine do not
 * make longer. Linux only: its clock moves every 4 ms while a thread runs.
 */
import { existsSync, openSync, readSync } from 'node:fs';

const CLOCK = '/proc/thread-self/schedstat';
const NANOSECONDS = 1e6;

export class TurnProbe {
  private readonly line = Buffer.alloc(100);
  private longestMs = 0;

  private constructor(private readonly file: number) {
    let last = this.read();
    const turn = (): void => {
      const now = this.read();
      this.longestMs = Math.max(this.longestMs, now - last);
      last = now;
      // it runs once a turn, and keeps the loop from no sleep
      setImmediate(turn).unref();
    };
    turn();
  }

  /** Undefined where the system does not tell. */
  static start(): TurnProbe | undefined {
    return existsSync(CLOCK) ? new TurnProbe(openSync(CLOCK, 'r')) : undefined;
  }

  /** Since the last call. */
  takeLongestMs(): number {
    const { longestMs } = this;
    this.longestMs = 0;
    return longestMs;
  }

  /** Milliseconds for which this thread has run. */
  private read(): number {
    const length = readSync(this.file, this.line, 0, this.line.length, 0);
    return Number(this.line.toString('latin1', 0, length).split(' ')[0]) / NANOSECONDS;
  }
}
