/** Where the events of a run go. */
import type { NewTrainingEvent } from '../../storage/training-rows.ts';
import type { TrainingStore } from '../../storage/training-store.ts';
import type { TrainingProgress } from '../run/trainer-protocol.ts';

export class ProgressSink {
  /** What an event could not be stored by: no fault of the run. */
  failure: unknown;
  /** Events that were stored, those that came again left out. */
  addedCount = 0;
  private readonly losing = new AbortController();

  constructor(
    private readonly store: TrainingStore,
    private readonly id: string,
    /** Called when the run is to be cancelled. */
    private readonly cancel: () => void,
  ) {}

  /** Aborted when the run is another's, or over. */
  get lost(): AbortSignal {
    return this.losing.signal;
  }

  /** Resolves when they are stored. */
  readonly add = async (progress: readonly TrainingProgress[]): Promise<void> => {
    try {
      await this.keep(progress);
    } catch (error) {
      this.failure = error;
      throw error;
    }
  };

  private async keep(progress: readonly TrainingProgress[]): Promise<void> {
    const events: NewTrainingEvent[] = [];
    for (const event of progress) {
      if (event.type !== 'prepared') events.push(event);
      else if ((await this.store.prepare(this.id, event)) === undefined) this.losing.abort();
    }
    if (events.length === 0) return;
    const added = await this.store.addEvents(this.id, events);
    if (added === undefined) this.losing.abort();
    else this.addedCount += added.count;
    if (added?.cancelRequested === true) this.cancel();
  }
}
