/** Hears that a run is to be cancelled, while it is worked on. */
import type { StoredRun } from '../storage/run-store.ts';
import type { Notifications } from './notifications.ts';

interface CancellationParts {
  readonly store: { get(id: string): Promise<StoredRun | undefined> };
  readonly notifications: Notifications;
}

/** Calls `work` with a signal that is aborted when the run's row asks for its end; `work` may say it too, by `cancel`. */
export async function untilCancelled<T>(
  { store, notifications }: CancellationParts,
  { id, cancelRequested }: StoredRun,
  work: (cancelled: AbortSignal, cancel: () => void) => Promise<T>,
): Promise<T> {
  const cancelling = new AbortController();
  const cancel = (): void => cancelling.abort();
  if (cancelRequested) cancel();
  const look = onceAtATime(async () => {
    const now = await store.get(id);
    if (now?.cancelRequested === true) cancel();
  });
  const unsubscribe = notifications.subscribe(id, look);
  try {
    // between its being taken up and here
    look();
    return await work(cancelling.signal, cancel);
  } finally {
    unsubscribe();
  }
}

/** Calls `work` again after it was called while it ran. What it rejects with is lost: what is stored next tells as well. */
function onceAtATime(work: () => Promise<void>): () => void {
  let state: 'idle' | 'running' | 'asked again' = 'idle';
  const call = (): void => {
    if (state !== 'idle') {
      state = 'asked again';
      return;
    }
    state = 'running';
    void work()
      .catch(() => {})
      .finally(() => {
        const isAsked = state === 'asked again';
        state = 'idle';
        if (isAsked) call();
      });
  };
  return call;
}
