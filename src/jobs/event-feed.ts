/**
 * The events of a run, from any point on: what is stored is read in pages, then one waits for hints. Rows are the only
 * truth, so nothing is lost or told twice across restarts and replicas, and a slow reader costs one page.
 */
import type { Clock } from '../runtime/engine/clock.ts';
import { RuntimeError } from '../runtime/errors.ts';
import type { StoredEvaluation, StoredSample } from '../storage/evaluation-rows.ts';
import { type EvaluationStore, type EventPage, isOver } from '../storage/evaluation-store.ts';
import type { Notifications } from './notifications.ts';

/** sample: its sequence is the cursor behind it. */
export type EvaluationEvent =
  | { readonly type: 'sample'; readonly sample: StoredSample; readonly evaluation: StoredEvaluation }
  | { readonly type: 'over'; readonly evaluation: StoredEvaluation };

/** Samples read at a time, some kilobytes each: reading them holds this thread for 2 to 3 ms, even of 8 variants. */
const PAGE_SAMPLES = 20;
/** How long a hint that got lost goes unnoticed. */
const LOOK_MS = 5000;

export class EventFeed {
  private readonly watches = new Map<string, RunWatch>();

  constructor(
    private readonly store: EvaluationStore,
    private readonly notifications: Notifications,
    private readonly clock: Clock,
  ) {}

  /**
   * Every sample of the run behind number `after` (0: all), in order and once, as it is stored; then `over`, and ends.
   * Ends early when `signal` is aborted. Throws NOT_FOUND.
   */
  async *follow(id: string, after: number, signal: AbortSignal): AsyncGenerator<EvaluationEvent, void, void> {
    const watch = this.watch(id);
    try {
      let cursor = after;
      while (!signal.aborted) {
        const { state } = watch;
        const page = await watch.read(cursor);
        if (page === undefined) throw new RuntimeError('NOT_FOUND', `There is no evaluation ${JSON.stringify(id)}.`);
        const { evaluation, samples } = page;
        for (const sample of samples) {
          if (signal.aborted) return;
          yield { type: 'sample', sample, evaluation };
          cursor = sample.sequence;
        }
        if (samples.length === PAGE_SAMPLES) continue;
        if (isOver(evaluation)) {
          yield { type: 'over', evaluation };
          return;
        }
        await watch.changedSince(state, signal);
      }
    } finally {
      this.leave(id, watch);
    }
  }

  private watch(id: string): RunWatch {
    const watch = this.watches.get(id) ?? new RunWatch(id, this.store, this.notifications, this.clock);
    this.watches.set(id, watch);
    watch.followers++;
    return watch;
  }

  private leave(id: string, watch: RunWatch): void {
    watch.followers--;
    if (watch.followers > 0) return;
    watch.close();
    this.watches.delete(id);
  }
}

/** What the followers of one run share: who looks at the same place in the same state of things looks once. */
class RunWatch {
  followers = 0;
  /** Counts hints. */
  state = 0;
  private readonly pages = new Map<string, Promise<EventPage | undefined>>();
  private readonly waiting = new Set<() => void>();
  private readonly unsubscribe: () => void;
  private cancelLook: () => void;

  constructor(
    private readonly id: string,
    private readonly store: EvaluationStore,
    notifications: Notifications,
    private readonly clock: Clock,
  ) {
    this.unsubscribe = notifications.subscribe(id, () => this.hint());
    this.cancelLook = this.lookLater();
  }

  read(after: number): Promise<EventPage | undefined> {
    const key = `${this.state}:${after}`;
    let page = this.pages.get(key);
    if (page === undefined) {
      page = this.store.samplesSince(this.id, after, PAGE_SAMPLES).finally(() => this.pages.delete(key));
      this.pages.set(key, page);
    }
    return page;
  }

  async changedSince(state: number, signal: AbortSignal): Promise<void> {
    if (this.state !== state || signal.aborted) return;
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        this.waiting.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.waiting.add(wake);
      signal.addEventListener('abort', wake);
    });
  }

  close(): void {
    this.unsubscribe();
    this.cancelLook();
  }

  private hint(): void {
    this.state++;
    for (const wake of [...this.waiting]) wake();
  }

  private lookLater(): () => void {
    return this.clock.after(LOOK_MS, () => {
      this.cancelLook = this.lookLater();
      this.hint();
    });
  }
}
