/** Trainings as a kind of runs. */
import { EventFeed, type EventSource } from '../../jobs/event-feed.ts';
import type { RunKind } from '../../jobs/run-desk.ts';
import type { StoredTraining, StoredTrainingEvent } from '../../storage/training-rows.ts';
import { TrainingStore } from '../../storage/training-store.ts';
import { TrainingJob } from './training-job.ts';
import type { TrainingParts } from './training-parts.ts';
import { TRAINING, TRAINING_QUEUE, Trainings } from './trainings.ts';

export interface TrainingKindOptions extends TrainingParts {
  /** Ends those who follow runs; they go on elsewhere, or later. */
  readonly stopping: AbortSignal;
  /** Hears of processes that ended before their run did. */
  readonly onError: (error: unknown) => void;
}

/** Events read at a time, some hundred bytes each. */
const PAGE_EVENTS = 100;

export function trainingKind(options: TrainingKindOptions): RunKind<Trainings> {
  return {
    queue: TRAINING_QUEUE,
    open: ({ database, notifications, queue }) => {
      const store = new TrainingStore(database);
      const feed = new EventFeed({ source: trainingEvents(store), notifications, clock: options.clock });
      return {
        runs: new Trainings({ ...options, store, queue, feed }),
        work: new TrainingJob({ ...options, store, notifications, isShared: !database.isEmbedded }).work,
      };
    },
  };
}

/** Steps and validations of trainings, as a feed reads them. */
function trainingEvents(store: TrainingStore): EventSource<StoredTraining, StoredTrainingEvent> {
  return {
    noun: TRAINING,
    pageSize: PAGE_EVENTS,
    read: async (id, after, limit) => {
      const page = await store.eventsSince(id, after, limit);
      return page && { run: page.training, items: page.events };
    },
  };
}
