/** Hands all generations of a tick over together: the aliases of one document then meet in one batch. */
import { setMaxListeners } from 'node:events';
import DataLoader from 'dataloader';
import type { Prepared } from '../runtime/text-generation.ts';

type Prepare<Result> = () => Promise<Prepared<Result>>;

/** New for each request. Nothing is cached: two equal aliases are two generations. */
export class GenerationLoader {
  private readonly loader: DataLoader<Prepare<unknown>, unknown>;

  constructor(signal: AbortSignal) {
    // every generation listens to it: that many are no leak
    setMaxListeners(0, signal);
    this.loader = new DataLoader((all) => runTogether(all, signal), { cache: false });
  }

  /** Prepares with all others of the tick, then runs with them. Rejects with what `prepare` or the run rejects with. */
  load<Result>(prepare: Prepare<Result>): Promise<Result> {
    return this.loader.load(prepare) as Promise<Result>;
  }
}

/** Preparing takes one longer than the other; running starts in one tick for all. */
async function runTogether(all: readonly Prepare<unknown>[], signal: AbortSignal): Promise<unknown[]> {
  const prepared = await Promise.allSettled(all.map((prepare) => prepare()));
  const settled = await Promise.allSettled(
    prepared.map((one) => (one.status === 'fulfilled' ? one.value.run({ signal }) : Promise.reject(one.reason))),
  );
  return settled.map((one) => (one.status === 'fulfilled' ? one.value : toError(one.reason)));
}

function toError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}
