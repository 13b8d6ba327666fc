/**
 * Who runs next: first come, first served, as many as fit the row limit, interactive requests before background ones.
 * Pure policy: it moves nothing and knows no cache. A request that has run for a whole time slice gives way when others
 * wait, so that long ones starve nobody; a background request gives way to interactive ones at once, until so many went
 * before it that it counts as one of them.
 */
import { invariant } from '../errors.ts';
import type { Preparation } from './model-runner.ts';
import type { ScheduledRequest } from './scheduled-request.ts';

export interface SchedulerOptions {
  /** Rows (beams, samples) that run at once. */
  readonly maxRows: number;
  /** Prompt or source tokens that are read between two steps; one request is always admitted. */
  readonly prefillTokens: number;
  /** Steps after which a running request gives way to a waiting one. */
  readonly timeSliceSteps: number;
}

/** Interactive requests that may go before a background one: with more, it would wait for ever on a busy server. */
const MOST_OVERTAKING = 256;
/** Requests that may start before one that waits for room of its adapters: then they wait with it until it has that. */
const MOST_PASSING = 32;

export class Scheduler {
  /** In order: those that yield come after those that do not. */
  private waiting: ScheduledRequest[] = [];
  private readonly running = new Set<ScheduledRequest>();
  /** Waiting requests whose adapters found no room beside those that run; until one of these leaves there is none. */
  private readonly roomless = new Set<ScheduledRequest>();

  constructor(private readonly options: SchedulerOptions) {}

  get waitingCount(): number {
    return this.waiting.length;
  }

  get runningCount(): number {
    return this.running.size;
  }

  /** Whether the first of those that wait has rows, and is kept by something else. */
  get nextFits(): boolean {
    const [next] = this.waiting;
    return next !== undefined && next.rowDemand <= this.freeRows();
  }

  get hasWork(): boolean {
    return this.waiting.length > 0 || this.running.size > 0;
  }

  add(request: ScheduledRequest): void {
    invariant(request.rowDemand <= this.options.maxRows, 'a request fits the row limit');
    this.enqueue(request);
  }

  /** Takes out of the queue and of the running set whatever `leaves` says, and returns it. */
  remove(leaves: (request: ScheduledRequest) => boolean): readonly ScheduledRequest[] {
    const gone = [...this.waiting, ...this.running].filter(leaves);
    if (gone.length === 0) return gone;
    this.waiting = this.waiting.filter((request) => !leaves(request));
    for (const request of gone) this.running.delete(request);
    this.roomless.clear();
    return gone;
  }

  /** The running requests that give way now; those that yield are the first of their kind again, others the last. */
  preempt(): readonly ScheduledRequest[] {
    const next = this.waiting.find((request) => !this.passes(request));
    // no rows are taken for what cannot run in them
    if (next === undefined || this.roomless.has(next)) return [];
    let free = this.freeRows();
    const leaving: ScheduledRequest[] = [];
    const running = [...this.running];
    // the latest of those that yield have the least to lose
    const yielding = yields(next) ? [] : running.filter(yields).reverse();
    const tired = running.filter((one) => one.stepsInSlice >= this.options.timeSliceSteps);
    for (const request of new Set([...yielding, ...tired])) {
      if (free >= next.rowDemand) break;
      leaving.push(request);
      free += request.rowDemand;
    }
    if (free < next.rowDemand) return [];
    for (const request of leaving) {
      this.running.delete(request);
      if (yielding.includes(request)) this.waiting.splice(this.firstYielding(), 0, request);
      else this.enqueue(request);
    }
    if (leaving.length > 0) this.roomless.clear();
    return leaving;
  }

  /**
   * The waiting requests that start now; they count as running from here on. `prepare` is asked of each in turn, with
   * those that will run beside it. Who is not ready holds up those behind it, so that they stay in order; who has no
   * room is passed by them, but by so many only that it is not passed over for ever.
   */
  admit(
    prepare: (request: ScheduledRequest, beside: readonly ScheduledRequest[]) => Preparation = () => 'ready',
  ): readonly ScheduledRequest[] {
    const admitted = new Set<ScheduledRequest>();
    const passed: ScheduledRequest[] = [];
    const busy = this.running.size > 0;
    let free = this.freeRows();
    let tokens = 0;
    for (const request of this.waiting) {
      if (!this.roomless.has(request)) {
        if (request.rowDemand > free) break;
        const withIt = tokens + (request.state.status === 'waiting' ? request.request.promptTokenIds.length : 0);
        if (busy && tokens > 0 && withIt > this.options.prefillTokens) break;
        const preparation = prepare(request, [...this.running, ...admitted]);
        if (preparation === 'more to do') break;
        if (preparation === 'ready') {
          for (const one of passed) one.passedBy++;
          tokens = withIt;
          free -= request.rowDemand;
          admitted.add(request);
          continue;
        }
        this.roomless.add(request);
      }
      if (!this.passes(request)) break;
      passed.push(request);
    }
    this.waiting = this.waiting.filter((request) => !admitted.has(request));
    for (const request of admitted) this.running.add(request);
    return [...admitted];
  }

  /** Whether those behind it may start before it. */
  private passes(request: ScheduledRequest): boolean {
    return this.roomless.has(request) && request.passedBy < MOST_PASSING;
  }

  /** Behind its own kind. */
  private enqueue(request: ScheduledRequest): void {
    if (yields(request)) {
      this.waiting.push(request);
      return;
    }
    const place = this.firstYielding();
    for (const overtaken of this.waiting.slice(place)) overtaken.overtakenBy++;
    this.waiting.splice(place, 0, request);
  }

  private firstYielding(): number {
    const place = this.waiting.findIndex(yields);
    return place < 0 ? this.waiting.length : place;
  }

  private freeRows(): number {
    let used = 0;
    for (const request of this.running) used += request.rowDemand;
    return this.options.maxRows - used;
  }
}

function yields({ request, overtakenBy }: ScheduledRequest): boolean {
  return request.priority === 'background' && overtakenBy < MOST_OVERTAKING;
}
