/**
 * Works on runs: generates, scores and stores sample by sample. Which samples are missing is read from the rows, so a
 * run that a process left goes on where it was, in whichever process takes it up.
 */
import { untilCancelled } from '../../jobs/cancellation.ts';
import { checkFruitful } from '../../jobs/fruitless-starts.ts';
import { failOrLeave } from '../../jobs/not-here.ts';
import type { Notifications } from '../../jobs/notifications.ts';
import type { Job, JobHandler } from '../../jobs/queue.ts';
import type { NewSample, StoredEvaluation } from '../../storage/evaluation-rows.ts';
import type { EvaluationSummaries } from './evaluation-summaries.ts';
import { EVALUATION } from './evaluations.ts';
import { type GenerationParts, RunGeneration } from './run-generation.ts';
import { rescoreAll } from './run-rescoring.ts';

interface EvaluatorParts extends GenerationParts {
  readonly summaries: EvaluationSummaries;
  readonly notifications: Notifications;
  /** Whether other processes work on the same runs. */
  readonly isShared: boolean;
}

export class Evaluator {
  constructor(private readonly parts: EvaluatorParts) {}

  /** Takes a run up and works on it until it is over, or until the job's signal. */
  readonly work: JobHandler = async (job) => {
    const { store, summaries } = this.parts;
    const evaluation = await store.begin(job.id);
    if (evaluation === undefined) return;
    try {
      checkFruitful(evaluation, 'samples');
      const isCancelled = await this.scoreAll(evaluation, job);
      if (job.signal.aborted) return;
      const summary = await summaries.final(evaluation);
      await (isCancelled ? store.cancel(job.id, summary) : store.finish(job.id, summary));
    } catch (error) {
      await failOrLeave(this.parts, EVALUATION, job, error);
    }
  };

  /** Returns whether the run was cancelled. */
  private scoreAll(evaluation: StoredEvaluation, { signal: leaving }: Job): Promise<boolean> {
    const { store } = this.parts;
    const { id, rescoredFrom } = evaluation;
    return untilCancelled(this.parts, evaluation, async (cancelled, cancel) => {
      if (cancelled.aborted) return true;
      const add = async (sample: NewSample): Promise<void> => {
        const added = await store.addSample(id, sample);
        if (added?.cancelRequested === true) cancel();
      };
      const signal = AbortSignal.any([leaving, cancelled]);
      if (rescoredFrom === null) await new RunGeneration(this.parts, evaluation).run({ add, signal });
      else await rescoreAll(this.parts, evaluation, rescoredFrom, { add, signal });
      return cancelled.aborted;
    });
  }
}
