/** What the serving thread and an inference worker say to each other. Plain data: it is cloned on the way. */

import type { TokensAppended } from '../decoding/decoding-strategy.ts';
import type { LoraTargets } from '../graph/lora.ts';
import type { LoraWeights } from '../lora/lora-weights.ts';
import type { ModelConfig } from '../models/model-config.ts';
import type { Device, Precision } from '../models/served-model.ts';
import type { PieceVocabulary } from '../tokenizer/text-tail.ts';
import type { TransferredError } from '../transfer-error.ts';
import type { EmbeddingLayer } from './engine-client.ts';
import type { GenerationOutput, GenerationRequest } from './generation-request.ts';
import type { SchedulerOptions } from './scheduler.ts';
import type { StepTrace } from './step-plan.ts';

/** What all workers of a model are started with. */
export interface ModelSetup {
  readonly modelFolder: string;
  readonly config: ModelConfig;
  /** What texts are made of, for stop strings. */
  readonly vocabulary: PieceVocabulary;
  readonly threadCount: number;
  readonly precision: Precision;
  readonly device: Device;
  readonly scheduler: SchedulerOptions;
  /** Whether each step is reported. */
  readonly traceSteps: boolean;
}

/** What one worker is started with. */
export interface WorkerSetup extends ModelSetup {
  /** The adapters that it starts with, by key; its graphs have LoRA inputs for them and for `targets`. */
  readonly adapters: ReadonlyMap<string, LoraWeights>;
  readonly targets: LoraTargets;
}

export type ToWorker =
  | { readonly type: 'generate'; readonly requests: readonly GenerationRequest[] }
  | { readonly type: 'add-adapter'; readonly key: string; readonly weights: LoraWeights }
  | { readonly type: 'drop-adapter'; readonly key: string }
  | { readonly type: 'cancel'; readonly requestId: string }
  | {
      readonly type: 'embed';
      readonly embedId: number;
      readonly tokenIds: readonly (readonly number[])[];
      readonly layer: EmbeddingLayer;
    }
  | { readonly type: 'close' };

export type FromWorker =
  | { readonly type: 'progress'; readonly stage: string; readonly share: number }
  | {
      readonly type: 'ready';
      readonly parameterCount: number;
      readonly memoryBytes: number;
      readonly kernels: string;
      readonly warnings: readonly string[];
    }
  | { readonly type: 'load-failed'; readonly error: TransferredError }
  | { readonly type: 'tokens'; readonly requestId: string; readonly tokens: readonly TokensAppended[] }
  | { readonly type: 'finished'; readonly requestId: string; readonly output: GenerationOutput }
  | { readonly type: 'failed'; readonly requestId: string; readonly error: TransferredError }
  | { readonly type: 'embedded'; readonly embedId: number; readonly vectors: readonly Float32Array[] }
  | { readonly type: 'embed-failed'; readonly embedId: number; readonly error: TransferredError }
  | { readonly type: 'step'; readonly trace: StepTrace };
