/** GraphQL enums over the runtime's own unions: each compiles only while it is complete. */
import { registerEnumType } from 'type-graphql';
import type { Metric } from '../evaluation/statistics/score-table.ts';
import type {
  AdapterChange as RuntimeAdapterChange,
  AdapterStatus as RuntimeAdapterStatus,
} from '../runtime/adapters/served-adapter.ts';
import type { EarlyStopping as RuntimeEarlyStopping } from '../runtime/decoding/sampling-params.ts';
import type { FinishReason as RuntimeFinishReason } from '../runtime/decoding/stopping-criteria.ts';
import type { EngineStatus, EmbeddingLayer as RuntimeEmbeddingLayer } from '../runtime/engine/engine-client.ts';
import type { Device as RuntimeDevice, Precision as RuntimePrecision } from '../runtime/models/served-model.ts';
import type { OverflowPolicy as RuntimeOverflowPolicy } from '../runtime/text-generation.ts';
import type { RunStatus as StoredRunStatus } from '../storage/tables.ts';
import type { TrainingRequest } from '../training/jobs/training-request.ts';
import type { OptimizationSettings } from '../training/run/trainer-protocol.ts';

type RuntimeTuningMethod = TrainingRequest['method'];
type RuntimeLearningRateSchedule = OptimizationSettings['schedule'];

export const ModelFamily = { T5: 't5', GPT2: 'gpt2', LLAMA: 'llama' } as const;
registerEnumType(ModelFamily, { name: 'ModelFamily' });

export const Precision = { FP32: 'fp32', INT8: 'int8', FP16: 'fp16' } as const satisfies Record<
  Uppercase<RuntimePrecision>,
  RuntimePrecision
>;
registerEnumType(Precision, {
  name: 'Precision',
  description: 'INT8: 8-bit weights, on the CPU alone. FP16: 16-bit weights and arithmetic, on CUDA alone.',
});

export const Device = { CPU: 'cpu', CUDA: 'cuda' } as const satisfies Record<Uppercase<RuntimeDevice>, RuntimeDevice>;
registerEnumType(Device, { name: 'Device' });

export const ModelStatus = {
  READY: 'ready',
  RESTARTING: 'restarting',
  DRAINING: 'draining',
  FAILED: 'failed',
  UNLOADED: 'unloaded',
} as const satisfies Record<Uppercase<EngineStatus> | 'UNLOADED', EngineStatus | 'unloaded'>;
registerEnumType(ModelStatus, {
  name: 'ModelStatus',
  description:
    'READY: it answers. RESTARTING: its worker ended and another is being started; requests are OVERLOADED. DRAINING: it is being unloaded. FAILED: its worker ended again and again; it is out of service until it is unloaded and loaded again. UNLOADED: it is not in service; what was done with it remembers it.',
});

export const AdapterStatus = {
  LOADING: 'loading',
  READY: 'ready',
  DRAINING: 'draining',
  FAILED: 'failed',
} as const satisfies Record<Uppercase<RuntimeAdapterStatus>, RuntimeAdapterStatus>;
registerEnumType(AdapterStatus, {
  name: 'AdapterStatus',
  description:
    'LOADING: its files are being read; what they say is empty until then. READY: requests may name it, whether it is in memory or brought in on demand. DRAINING: it is being unloaded; requests that have it keep it. FAILED: its files are gone or broken; a request that names it looks at them anew.',
});

export const AdapterChange = {
  LOADED: 'loaded',
  ACTIVATED: 'activated',
  DEACTIVATED: 'deactivated',
  UNLOADED: 'unloaded',
  FAILED: 'failed',
} as const satisfies Record<Uppercase<RuntimeAdapterChange['change']>, RuntimeAdapterChange['change']>;
registerEnumType(AdapterChange, {
  name: 'AdapterChange',
  description:
    'ACTIVATED: the model answers with this adapter, whatever it answered with before. DEACTIVATED: it answers with its own weights again. A swap from one adapter to another is ACTIVATED alone.',
});

export const EarlyStopping = {
  HEURISTIC: 'heuristic',
  WHEN_BEAMS_FINISH: 'when-beams-finish',
  NEVER: 'never',
} as const satisfies Record<string, RuntimeEarlyStopping>;
registerEnumType(EarlyStopping, { name: 'EarlyStopping', description: 'Hugging Face: False, True, "never".' });

export const FinishReason = { STOP: 'stop', LENGTH: 'length', CANCELLED: 'cancelled' } as const satisfies Record<
  Uppercase<RuntimeFinishReason>,
  RuntimeFinishReason
>;
registerEnumType(FinishReason, { name: 'FinishReason' });

export const OverflowPolicy = { ERROR: 'error', TRUNCATE: 'truncate' } as const satisfies Record<
  Uppercase<RuntimeOverflowPolicy>,
  RuntimeOverflowPolicy
>;
registerEnumType(OverflowPolicy, {
  name: 'OverflowPolicy',
  description: 'What happens to input longer than the model takes.',
});

export const EmbeddingLayer = { INPUT: 'input', ENCODER: 'encoder' } as const satisfies Record<
  Uppercase<RuntimeEmbeddingLayer>,
  RuntimeEmbeddingLayer
>;
registerEnumType(EmbeddingLayer, {
  name: 'EmbeddingLayer',
  description:
    'INPUT: rows of the word-embedding table. ENCODER: last hidden states (encoder-decoder) or final hidden states (decoder-only).',
});

export const Pooling = { NONE: 'none', MEAN: 'mean' } as const;
registerEnumType(Pooling, { name: 'Pooling' });

export const TuningMethod = { LORA: 'lora', FULL: 'full' } as const satisfies Record<
  Uppercase<RuntimeTuningMethod>,
  RuntimeTuningMethod
>;
registerEnumType(TuningMethod, {
  name: 'TuningMethod',
  description: 'LORA: a PEFT adapter beside frozen weights. FULL: every weight, which makes another model.',
});

export const LearningRateSchedule = {
  CONSTANT: 'constant',
  LINEAR: 'linear',
  COSINE: 'cosine',
} as const satisfies Record<Uppercase<RuntimeLearningRateSchedule>, RuntimeLearningRateSchedule>;
registerEnumType(LearningRateSchedule, {
  name: 'LearningRateSchedule',
  description: 'After warmupSteps of linear rise. LINEAR and COSINE fall to 0 at the last step.',
});

export type ValueOf<E> = E[keyof E];

export const RunStatus = {
  QUEUED: 'queued',
  RUNNING: 'running',
  SUCCEEDED: 'succeeded',
  FAILED: 'failed',
  CANCELLED: 'cancelled',
} as const satisfies Record<Uppercase<StoredRunStatus>, StoredRunStatus>;
registerEnumType(RunStatus, { name: 'RunStatus' });

export const RougeMetric = {
  ROUGE1: 'rouge1',
  ROUGE2: 'rouge2',
  ROUGEL: 'rougeL',
  ROUGELSUM: 'rougeLsum',
} as const satisfies Record<Uppercase<Metric>, Metric>;
registerEnumType(RougeMetric, { name: 'RougeMetric' });
