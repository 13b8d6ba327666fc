/** A trainer that does what a test says, run by run. */
import assert from 'node:assert/strict';
import { basename, dirname } from 'node:path';
import type { TrainingRunner } from '../../src/training/jobs/training-parts.ts';
import type { TrainerPlaces, TrainingPlan, TrainingProgress } from '../../src/training/run/trainer-protocol.ts';
import { settle } from './settle.ts';
import { writeTinyAdapter } from './tiny-adapter.ts';

export class ScriptedRun {
  readonly outcome: Promise<'finished' | 'stopped'>;
  private resolve: (outcome: 'finished' | 'stopped') => void = () => {};
  private reject: (error: Error) => void = () => {};

  constructor(
    readonly plan: TrainingPlan,
    readonly places: TrainerPlaces,
    private readonly watch: Parameters<TrainingRunner>[2],
  ) {
    this.outcome = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  get isStopped(): boolean {
    return this.watch.signal.aborted;
  }

  /** Resolves when they are stored. */
  tell(...events: readonly TrainingProgress[]): Promise<void> {
    return this.watch.onProgress(events);
  }

  /** Writes an adapter that can be loaded, and ends. */
  async finish(): Promise<void> {
    await writeTinyAdapter(dirname(this.places.output), basename(this.places.output));
    this.resolve('finished');
  }

  /** Ends; the output is there, or is said to be. */
  say(outcome: 'finished' | 'stopped'): void {
    this.resolve(outcome);
  }

  fail(error: Error): void {
    this.reject(error);
  }
}

export class ScriptedTrainer {
  /** Runs that have begun. */
  count = 0;
  private readonly begun: ScriptedRun[] = [];

  readonly run: TrainingRunner = (plan, places, watch) => {
    const run = new ScriptedRun(plan, places, watch);
    this.count++;
    this.begun.push(run);
    watch.signal.addEventListener('abort', () => run.say('stopped'));
    return run.outcome;
  };

  /** The oldest run that nobody has had, once it has begun. */
  async next(): Promise<ScriptedRun> {
    await settle(() => this.begun.length > 0);
    return this.begun.shift() ?? assert.fail();
  }
}
