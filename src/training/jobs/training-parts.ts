/** What trainings are made of. */
import type { AdapterDirectory } from '../../runtime/adapters/served-adapter.ts';
import type { DatasetDirectories, DatasetDirectory } from '../../runtime/datasets/dataset-directory.ts';
import type { Clock } from '../../runtime/engine/clock.ts';
import type { ModelDirectories } from '../../runtime/models/model-files.ts';
import type { ModelDirectory } from '../../runtime/models/served-model.ts';
import type { TrainerPlaces, TrainingPlan, TrainingProgress } from '../run/trainer-protocol.ts';

/** How a run goes on: the events are stored when the promise is resolved. */
interface TrainingWatch {
  onProgress(events: readonly TrainingProgress[]): Promise<void>;
  /** Once aborted it leaves off after a step, its checkpoint written. */
  readonly signal: AbortSignal;
}

/**
 * Trains, going on from the last checkpoint. Rejects with a RuntimeError when the plan cannot be carried out, with
 * another error when the process of the run ended.
 */
export type TrainingRunner = (
  plan: TrainingPlan,
  places: TrainerPlaces,
  watch: TrainingWatch,
) => Promise<'finished' | 'stopped'>;

/** Where things of all trainings are. */
interface TrainingFolders {
  readonly models: ModelDirectories;
  readonly datasets: DatasetDirectories;
  /** Adapters that come out go there; models go to `models.models`. */
  readonly adapters: string;
  /** A folder for the checkpoints of each run is made in it. */
  readonly checkpoints: string;
}

export interface TrainingParts {
  readonly models: ModelDirectory;
  readonly adapters: AdapterDirectory;
  readonly datasets: DatasetDirectory;
  readonly clock: Clock;
  readonly folders: TrainingFolders;
  readonly runTraining: TrainingRunner;
  /** Of a training's process. */
  readonly threadCount: number;
  /** Longest source in tokens that is served. */
  readonly maxInputTokens: number;
  /** Largest rank of an adapter that is loaded. */
  readonly maxRank: number;
  /** As in TrainerPlaces. */
  readonly checkpointMs: number;
}
