/**
 * Works on runs: generates, scores and stores sample by sample. Which samples are missing is read from the rows, so a
 * run that a process left goes on where it was, in whichever process takes it up.
 */

import type { Notifications } from '../../jobs/notifications.ts';
import type { Job, JobHandler } from '../../jobs/queue.ts';
import { RuntimeError } from '../../runtime/errors.ts';
import type { NewSample, StoredEvaluation } from '../../storage/evaluation-rows.ts';
import type { EvaluationSummaries } from './evaluation-summaries.ts';
import { type GenerationParts, RunGeneration } from './run-generation.ts';
import { rescoreAll } from './run-rescoring.ts';

interface EvaluatorParts extends GenerationParts {
  readonly summaries: EvaluationSummaries;
  readonly notifications: Notifications;
}

/** Times in a row that a run is taken up without a sample scored in between: then it is what ends its process. */
const MOST_FRUITLESS_STARTS = 20;

export class Evaluator {
  constructor(private readonly parts: EvaluatorParts) {}

  /** Takes a run up and works on it until it is over, or until the job's signal. */
  readonly work: JobHandler = async (job) => {
    const { store, summaries } = this.parts;
    const evaluation = await store.begin(job.id);
    if (evaluation === undefined) return;
    try {
      if (evaluation.fruitlessStarts > MOST_FRUITLESS_STARTS) throw neverScores();
      const isCancelled = await this.scoreAll(evaluation, job);
      if (job.signal.aborted) return;
      const summary = await summaries.final(evaluation);
      await (isCancelled ? store.cancel(job.id, summary) : store.finish(job.id, summary));
    } catch (error) {
      if (job.signal.aborted) return;
      // what is nobody's fault, a database out of reach for instance, is tried again
      if (!(error instanceof RuntimeError)) throw error;
      await store.fail(job.id, error.message);
    }
  };

  /** Returns whether the run was cancelled. */
  private async scoreAll(evaluation: StoredEvaluation, { signal: leaving }: Job): Promise<boolean> {
    const { store, notifications } = this.parts;
    if (evaluation.cancelRequested) return true;
    const { id, rescoredFrom } = evaluation;
    const cancelling = new AbortController();
    const look = onceAtATime(async () => {
      const now = await store.get(id);
      if (now?.cancelRequested === true) cancelling.abort();
    });
    const unsubscribe = notifications.subscribe(id, look);
    try {
      // between `begin` and here
      look();
      const add = async (sample: NewSample): Promise<void> => {
        const added = await store.addSample(id, sample);
        if (added?.cancelRequested === true) cancelling.abort();
      };
      const signal = AbortSignal.any([leaving, cancelling.signal]);
      if (rescoredFrom === null) await new RunGeneration(this.parts, evaluation).run({ add, signal });
      else await rescoreAll(this.parts, evaluation, rescoredFrom, { add, signal });
    } finally {
      unsubscribe();
    }
    return cancelling.signal.aborted;
  }
}

/** Calls `work` again after it was called while it ran. What it rejects with is lost: the next sample stored tells as well. */
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

function neverScores(): RuntimeError {
  const message = `Expected samples to be scored, but the run was taken up ${MOST_FRUITLESS_STARTS} times and none was, whether its process ended or something failed. See the logs for what did, then start a new run.`;
  return new RuntimeError('INTERNAL_SERVER_ERROR', message);
}
