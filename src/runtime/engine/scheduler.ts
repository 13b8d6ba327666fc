/**
 * Who runs next: first come, first served, as many as fit the row limit. Pure policy: it moves nothing and knows no
 * cache. A request that has run for a whole time slice gives way when others wait, so that long ones starve nobody.
 */
import { invariant } from '../errors.ts';
import type { ScheduledRequest } from './scheduled-request.ts';

export interface SchedulerOptions {
  /** Rows (beams, samples) that run at once. */
  readonly maxRows: number;
  /** Source tokens that are encoded between two steps while rows are running; one request is always admitted. */
  readonly prefillTokens: number;
  /** Steps after which a running request gives way to a waiting one. */
  readonly timeSliceSteps: number;
}

export class Scheduler {
  private waiting: ScheduledRequest[] = [];
  private readonly running = new Set<ScheduledRequest>();

  constructor(private readonly options: SchedulerOptions) {}

  get waitingCount(): number {
    return this.waiting.length;
  }

  get runningCount(): number {
    return this.running.size;
  }

  get hasWork(): boolean {
    return this.waiting.length > 0 || this.running.size > 0;
  }

  add(request: ScheduledRequest): void {
    invariant(request.rowDemand <= this.options.maxRows, 'a request fits the row limit');
    this.waiting.push(request);
  }

  /** Takes out of the queue and of the running set whatever `leaves` says, and returns it. */
  remove(leaves: (request: ScheduledRequest) => boolean): readonly ScheduledRequest[] {
    const gone = [...this.waiting, ...this.running].filter(leaves);
    if (gone.length === 0) return gone;
    this.waiting = this.waiting.filter((request) => !leaves(request));
    for (const request of gone) this.running.delete(request);
    return gone;
  }

  /** The running requests that give way now; they go to the end of the queue. */
  preempt(): readonly ScheduledRequest[] {
    const [next] = this.waiting;
    if (next === undefined) return [];
    let free = this.freeRows();
    const leaving: ScheduledRequest[] = [];
    for (const request of this.running) {
      if (free >= next.rowDemand) break;
      if (request.stepsInSlice < this.options.timeSliceSteps) continue;
      leaving.push(request);
      free += request.rowDemand;
    }
    if (free < next.rowDemand) return [];
    for (const request of leaving) this.running.delete(request);
    this.waiting.push(...leaving);
    return leaving;
  }

  /**
   * The waiting requests that start now; they count as running from here on. `isReady` is asked of each in turn, with
   * those that will run beside it; who is not ready holds up those behind it, so that nobody is passed over for ever.
   */
  admit(
    isReady: (request: ScheduledRequest, beside: readonly ScheduledRequest[]) => boolean = () => true,
  ): readonly ScheduledRequest[] {
    const admitted: ScheduledRequest[] = [];
    const busy = this.running.size > 0;
    let free = this.freeRows();
    let tokens = 0;
    for (const request of this.waiting) {
      if (request.rowDemand > free) break;
      tokens += request.state.status === 'waiting' ? request.request.promptTokenIds.length : 0;
      if (busy && admitted.length > 0 && tokens > this.options.prefillTokens) break;
      if (!isReady(request, [...this.running, ...admitted])) break;
      free -= request.rowDemand;
      admitted.push(request);
    }
    this.waiting = this.waiting.slice(admitted.length);
    for (const request of admitted) this.running.add(request);
    return admitted;
  }

  private freeRows(): number {
    let used = 0;
    for (const request of this.running) used += request.rowDemand;
    return this.options.maxRows - used;
  }
}
