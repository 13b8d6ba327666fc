/** Computations cut into pieces, so that long ones can share the event loop with what else wants to run. */
import { setImmediate } from 'node:timers/promises';

/** A computation that stops after each piece, a fraction of a millisecond long, and gives its result at the end. */
export type Work<T> = Generator<undefined, T, undefined>;

/** Milliseconds that work goes on before it lets others run. */
const TURN_MS = 1;

/** Steps of a few nanoseconds in a piece; while the code is not compiled yet, of a hundred. */
const PIECE_STEPS = 8192;

/** Says when a piece is done; one for a whole computation, so that many small parts add up. */
export class WorkMeter {
  private steps = 0;

  /** Counts steps; true when it is time to yield. */
  spend(steps: number): boolean {
    this.steps += steps;
    if (this.steps < PIECE_STEPS) return false;
    this.steps = 0;
    return true;
  }
}

/** Does all pieces at once. */
export function finish<T>(work: Work<T>): T {
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
  }
}

/** Gives each turn of the event loop to one piece of work at most: many at the same time hold it no longer than one. */
export class WorkTurns {
  private last: Promise<unknown> = Promise.resolve();

  /** `now` in milliseconds. Default: the system's clock. */
  constructor(private readonly now: () => number = () => performance.now()) {}

  /** Does the pieces in turns of their own; who came first does its next turn first. */
  async finish<T>(work: Work<T>): Promise<T> {
    for (;;) {
      await this.next();
      const start = this.now();
      do {
        const step = work.next();
        if (step.done === true) return step.value;
      } while (this.now() - start < TURN_MS);
    }
  }

  /** Resolves in a turn that nobody else has: for a piece of work that is not cut, about a millisecond long at most. */
  next(): Promise<unknown> {
    this.last = this.last.then(() => setImmediate());
    return this.last;
  }
}
