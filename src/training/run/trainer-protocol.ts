/** What the serving process and the process of one training say to each other. */
import type { TransferredError } from '../../runtime/transfer-error.ts';
import type { LearningRateSchedule } from '../optimizer/learning-rate.ts';

/** Hu et al. 2021, https://arxiv.org/abs/2106.09685, as PEFT's LoraConfig has it. */
export interface LoraSettings {
  readonly rank: number;
  readonly alpha: number;
  /** Share of what the factors read that a step drops, from 0 to below 1. */
  readonly dropout: number;
  /** As PEFT's target_modules: the last parts of paths, or the one name `all-linear`. */
  readonly targetModules: readonly string[];
  readonly useRslora: boolean;
}

/** How the weights move. Steps count updates, each of `batchSize` × `gradientAccumulation` samples at most. */
export interface OptimizationSettings {
  readonly epochs: number;
  /** All steps there are, whatever `epochs` says, as in transformers; null: as many as the epochs take. */
  readonly maxSteps: number | null;
  readonly batchSize: number;
  readonly gradientAccumulation: number;
  readonly learningRate: number;
  readonly schedule: LearningRateSchedule;
  readonly warmupSteps: number;
  readonly weightDecay: number;
  /** 0: gradients are not clipped. */
  readonly maxGradNorm: number;
  readonly labelSmoothing: number;
  readonly seed: number;
}

/** Which samples, and how they become tokens. */
export interface DataSettings {
  readonly dataset: string;
  readonly split: string;
  /** The first so many samples; null: all. */
  readonly limit: number | null;
  /** What the loss is taken on now and then; null: nowhere. */
  readonly validation: { readonly split: string; readonly limit: number | null } | null;
  readonly templateId: string;
  /** Longer sources are cut at their end, longer summaries too. */
  readonly maxSourceTokens: number;
  readonly maxTargetTokens: number;
}

/** All that decides the weights that come out, and where they go: equal plans on one machine give equal bits. */
export interface TrainingPlan {
  /** `dir:NAME` or `embedded:NAME`. */
  readonly modelSource: string;
  /** As the server knows it. */
  readonly modelId: string;
  readonly outputId: string;
  /** null: every weight is trained. */
  readonly lora: LoraSettings | null;
  readonly data: DataSettings;
  readonly optimization: OptimizationSettings;
  /** Steps between two looks at the validation samples; null: only after the last step. */
  readonly evaluateEverySteps: number | null;
  /** Threads of the matrix products: bits depend on them. */
  readonly threadCount: number;
}

/** Where things are on this machine. */
export interface TrainerPlaces {
  readonly directories: { readonly embedded: string; readonly models: string };
  readonly datasets: { readonly datasets: string; readonly embedded: string };
  /** Folder of this run's checkpoints; made when it is not there. */
  readonly checkpoints: string;
  /** How long a run goes on without a checkpoint at most; writing one takes a tenth of the time at most. Default 30 s. */
  readonly checkpointMs?: number;
  /** Folder of what comes out: a PEFT adapter, or a model in the layout of Hugging Face. It appears whole or not at all. */
  readonly output: string;
  /** Longest source in tokens that is served. */
  readonly maxInputTokens: number;
}

/** Before the first step; the same again when a run is taken up. */
interface TrainingPrepared {
  readonly type: 'prepared';
  readonly stepsTotal: number;
  readonly trainableParameters: number;
  /** Those of the adapter included. */
  readonly totalParameters: number;
  /** Step of the checkpoint that the run goes on from; 0: none. */
  readonly step: number;
  readonly warnings: readonly string[];
}

/** `step` counts from 1. Loss: mean over the step's label tokens. Rate and norm (before clipping) are those of this step. */
interface TrainedStep {
  readonly type: 'step';
  readonly step: number;
  readonly epoch: number;
  readonly loss: number;
  readonly learningRate: number;
  readonly gradientNorm: number;
  /** Source and label tokens, without padding. */
  readonly tokensPerSecond: number;
}

/** Mean loss over the validation samples' label tokens, with the weights after `step`. */
interface TrainingValidated {
  readonly type: 'validation';
  readonly step: number;
  readonly validationLoss: number;
}

export type TrainingProgress = TrainingPrepared | TrainedStep | TrainingValidated;

export type FromTrainer =
  | { readonly type: 'progress'; readonly events: readonly TrainingProgress[] }
  /** The output folder is there. */
  | { readonly type: 'finished' }
  /** It left off when it was told to; its last checkpoint stays. */
  | { readonly type: 'stopped' }
  | { readonly type: 'failed'; readonly error: TransferredError };

export type ToTrainer =
  | { readonly type: 'start'; readonly plan: TrainingPlan; readonly places: TrainerPlaces }
  /** The oldest `progress` that was not acknowledged is stored. */
  | { readonly type: 'acknowledged' }
  | { readonly type: 'stop' };
