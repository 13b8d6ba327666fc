/** Evaluations as a kind of runs. */
import { EventFeed, type EventSource } from '../../jobs/event-feed.ts';
import type { RunKind } from '../../jobs/run-desk.ts';
import type { StoredEvaluation, StoredSample } from '../../storage/evaluation-rows.ts';
import { EvaluationStore } from '../../storage/evaluation-store.ts';
import type { WorkTurns } from '../work.ts';
import { EvaluationSummaries } from './evaluation-summaries.ts';
import { EVALUATION, EVALUATION_QUEUE, Evaluations } from './evaluations.ts';
import { Evaluator } from './evaluator.ts';
import type { GenerationParts } from './run-generation.ts';

export interface EvaluationKindOptions extends Omit<GenerationParts, 'store'> {
  readonly turns: WorkTurns;
  /** Ends those who follow runs; they go on elsewhere, or later. */
  readonly stopping: AbortSignal;
}

/** Samples read at a time, some kilobytes each: reading them holds this thread for 2 to 3 ms, even of 8 variants. */
const PAGE_SAMPLES = 20;

export function evaluationKind(options: EvaluationKindOptions): RunKind<Evaluations> {
  const { turns, clock } = options;
  return {
    queue: EVALUATION_QUEUE,
    open: ({ database, notifications, queue }) => {
      const store = new EvaluationStore(database);
      const summaries = new EvaluationSummaries({ store, turns, clock });
      const feed = new EventFeed({ source: evaluationEvents(store), notifications, clock });
      return {
        runs: new Evaluations({ ...options, store, queue, feed, summaries }),
        work: new Evaluator({ ...options, store, summaries, notifications, isShared: !database.isEmbedded }).work,
      };
    },
  };
}

/** The samples of evaluations, as a feed reads them. */
export function evaluationEvents(store: EvaluationStore): EventSource<StoredEvaluation, StoredSample> {
  return {
    noun: EVALUATION,
    pageSize: PAGE_SAMPLES,
    read: async (id, after, limit) => {
      const page = await store.samplesSince(id, after, limit);
      return page && { run: page.evaluation, items: page.samples };
    },
  };
}
