/**
 * The events of a run, from any point on: what is stored is read in pages, then one waits for hints. Rows are the only
 * truth, so nothing is lost or told twice across restarts and replicas, and a slow reader costs one page.
 */
import type { Clock } from '../runtime/engine/clock.ts';
import { isOver, type StoredRun } from '../storage/run-store.ts';
import type { Notifications } from './notifications.ts';
import { unknownRun } from './run-requests.ts';

/** Items of a run, and the run as it was before they were read. */
interface RunPage<Run, Item> {
  readonly run: Run;
  readonly items: readonly Item[];
}

/** Where the items of a kind of runs are. */
export interface EventSource<Run, Item> {
  /** What such a run is called: "evaluation". */
  readonly noun: string;
  /** Items that are read at a time. */
  readonly pageSize: number;
  /**
   * Items in the order of storing, from the one behind number `after` on: when the run was over and there are fewer than
   * `limit`, there will be no more. Undefined: there is no such run.
   */
  read(id: string, after: number, limit: number): Promise<RunPage<Run, Item> | undefined>;
}

/** What is stored of a run again and again. */
interface Numbered {
  /** 1, 2, 3, … in the order of storing: the cursor behind it. */
  readonly sequence: number;
}

export type FeedEvent<Run, Item> =
  | { readonly type: 'item'; readonly item: Item; readonly run: Run }
  | { readonly type: 'over'; readonly run: Run };

interface FeedParts<Run, Item> {
  readonly source: EventSource<Run, Item>;
  readonly notifications: Notifications;
  readonly clock: Clock;
}

/** How long a hint that got lost goes unnoticed. */
const LOOK_MS = 5000;

export class EventFeed<Run extends Pick<StoredRun, 'status'>, Item extends Numbered> {
  private readonly watches = new Map<string, RunWatch<Run, Item>>();

  constructor(private readonly parts: FeedParts<Run, Item>) {}

  /**
   * Every item of the run behind number `after` (0: all), in order and once, as it is stored; then `over`, and ends.
   * Ends early when `signal` is aborted. Throws NOT_FOUND.
   */
  async *follow(id: string, after: number, signal: AbortSignal): AsyncGenerator<FeedEvent<Run, Item>, void, void> {
    const { noun, pageSize } = this.parts.source;
    const watch = this.watch(id);
    try {
      let cursor = after;
      while (!signal.aborted) {
        const { state } = watch;
        const page = await watch.read(cursor);
        if (page === undefined) throw unknownRun(noun, id);
        const { run, items } = page;
        for (const item of items) {
          if (signal.aborted) return;
          yield { type: 'item', item, run };
          cursor = item.sequence;
        }
        if (items.length === pageSize) continue;
        if (isOver(run)) {
          yield { type: 'over', run };
          return;
        }
        await watch.changedSince(state, signal);
      }
    } finally {
      this.leave(id, watch);
    }
  }

  private watch(id: string): RunWatch<Run, Item> {
    const watch = this.watches.get(id) ?? new RunWatch(id, this.parts);
    this.watches.set(id, watch);
    watch.followers++;
    return watch;
  }

  private leave(id: string, watch: RunWatch<Run, Item>): void {
    watch.followers--;
    if (watch.followers > 0) return;
    watch.close();
    this.watches.delete(id);
  }
}

/** What the followers of one run share: who looks at the same place in the same state of things looks once. */
class RunWatch<Run, Item> {
  followers = 0;
  /** Counts hints. */
  state = 0;
  private readonly pages = new Map<string, Promise<RunPage<Run, Item> | undefined>>();
  private readonly waiting = new Set<() => void>();
  private readonly unsubscribe: () => void;
  private cancelLook: () => void;

  constructor(
    private readonly id: string,
    private readonly parts: FeedParts<Run, Item>,
  ) {
    this.unsubscribe = parts.notifications.subscribe(id, () => this.hint());
    this.cancelLook = this.lookLater();
  }

  read(after: number): Promise<RunPage<Run, Item> | undefined> {
    const { source } = this.parts;
    const key = `${this.state}:${after}`;
    let page = this.pages.get(key);
    if (page === undefined) {
      page = source.read(this.id, after, source.pageSize).finally(() => this.pages.delete(key));
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
    return this.parts.clock.after(LOOK_MS, () => {
      this.cancelLook = this.lookLater();
      this.hint();
    });
  }
}
