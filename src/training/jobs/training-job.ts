/**
 * Works on trainings: has one run in a process of its own, stores what it tells, and brings what comes out into service.
 * What is there already says what is left to do, so a run that a process left goes on in whichever takes it up.
 */
import { mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { untilCancelled } from '../../jobs/cancellation.ts';
import { checkFruitful } from '../../jobs/fruitless-starts.ts';
import { failOrLeave, openHere } from '../../jobs/not-here.ts';
import type { Notifications } from '../../jobs/notifications.ts';
import type { Job, JobHandler } from '../../jobs/queue.ts';
import { waitFor } from '../../runtime/engine/clock.ts';
import { RuntimeError } from '../../runtime/errors.ts';
import type { StoredTraining } from '../../storage/training-rows.ts';
import type { TrainingStore } from '../../storage/training-store.ts';
import type { TrainerPlaces, TrainingPlan } from '../run/trainer-protocol.ts';
import { ProgressSink } from './progress-sink.ts';
import { checkNeeds } from './training-needs.ts';
import { isMade, outputFolder, outputOf, registerOutput } from './training-output.ts';
import type { TrainingParts } from './training-parts.ts';
import { TRAINING } from './trainings.ts';

interface TrainingJobParts extends TrainingParts {
  readonly store: TrainingStore;
  readonly notifications: Notifications;
  /** Whether other processes work on the same runs. */
  readonly isShared: boolean;
  /** Hears of processes that ended before their run did. */
  readonly onError: (error: unknown) => void;
}

/** Processes of a run that may end one after the other without a new step: then it is the run that ends them. */
const MOST_DEATHS = 3;
const RESTART_MS = 100;

export class TrainingJob {
  constructor(private readonly parts: TrainingJobParts) {}

  /** Takes a run up and works on it until it is over, or until the job's signal. */
  readonly work: JobHandler = async (job) => {
    const { store } = this.parts;
    const training = await store.begin(job.id);
    if (training === undefined) return;
    try {
      checkFruitful(training, 'steps');
      await untilCancelled(this.parts, training, (cancelled, cancel) =>
        this.carryOut(training, job, cancelled, cancel),
      );
    } catch (error) {
      await failOrLeave(this.parts, TRAINING, job, error);
    }
  };

  private async carryOut(
    training: StoredTraining,
    { signal: leaving }: Job,
    cancelled: AbortSignal,
    cancel: () => void,
  ): Promise<void> {
    const { store } = this.parts;
    const { id } = training;
    const sink = new ProgressSink(store, id, cancel);
    const signal = AbortSignal.any([leaving, cancelled, sink.lost]);
    const outcome = cancelled.aborted ? 'stopped' : await this.train(training, sink, signal);
    if (leaving.aborted || sink.lost.aborted) return;
    if (outcome === 'stopped') {
      await store.cancel(id);
      return;
    }
    const plan = training.request as TrainingPlan;
    // what is trained is brought in even when it is cancelled now
    if ((await registerOutput(this.parts, plan, leaving)) === undefined) return;
    await rm(this.checkpointsOf(id), { recursive: true, force: true });
    await store.finish(id);
  }

  /** Has the run in a process, in another when that ends. */
  private async train(
    { id, request }: StoredTraining,
    sink: ProgressSink,
    signal: AbortSignal,
  ): Promise<'finished' | 'stopped'> {
    const { runTraining, clock, onError } = this.parts;
    const plan = request as TrainingPlan;
    // what is made needs only to be brought into service
    if (!(await isMade(this.parts, outputOf(plan)))) await openHere(() => checkNeeds(this.parts, plan));
    const places = this.placesOf(id, plan);
    await mkdir(dirname(places.output), { recursive: true });
    for (let deaths = 0; !signal.aborted; ) {
      const before = sink.addedCount;
      try {
        return await runTraining(plan, places, { onProgress: sink.add, signal });
      } catch (error) {
        if (sink.failure !== undefined) throw sink.failure;
        if (error instanceof RuntimeError) throw error;
        onError(error);
        deaths = sink.addedCount > before ? 1 : deaths + 1;
        if (deaths >= MOST_DEATHS) throw neverLives(error);
        await waitFor(clock, RESTART_MS, signal);
      }
    }
    return 'stopped';
  }

  private placesOf(id: string, plan: TrainingPlan): TrainerPlaces {
    const { folders, checkpointMs, maxInputTokens } = this.parts;
    return {
      directories: folders.models,
      datasets: folders.datasets,
      checkpoints: this.checkpointsOf(id),
      checkpointMs,
      output: outputFolder(this.parts, outputOf(plan)),
      maxInputTokens,
    };
  }

  private checkpointsOf(id: string): string {
    return join(this.parts.folders.checkpoints, id);
  }
}

function neverLives(cause: unknown): RuntimeError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const message = `Expected the training's process to go on, it ended ${MOST_DEATHS} times in a row before a new step (${reason}). Lower batchSize or the token limits where memory is short, see the server's log, then resume it.`;
  return new RuntimeError('INTERNAL_SERVER_ERROR', message, {}, { cause });
}
