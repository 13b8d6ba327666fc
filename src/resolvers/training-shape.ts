/** From trainings to GraphQL's nouns and back. */
import type { Services } from '../context.ts';
import { secondsLeft } from '../jobs/seconds-left.ts';
import type { Model } from '../schema/model.type.ts';
import type { LoraInput, StartTrainingInput } from '../schema/training.input.ts';
import type { Training, TrainingFinished, TrainingStep, TrainingValidation } from '../schema/training.type.ts';
import type { StoredTraining } from '../storage/training-rows.ts';
import type { TrainedModelFacts } from '../training/jobs/training-plan.ts';
import {
  DEFAULT_SPLIT,
  DEFAULT_TARGET_TOKENS,
  defaultLora,
  defaultOptimization,
  type LoraRequest,
  type TrainingRequest,
} from '../training/jobs/training-request.ts';
import type { TrainingEvent as RunEvent } from '../training/jobs/trainings.ts';
import type { OptimizationSettings, TrainingPlan } from '../training/run/trainer-protocol.ts';
import { toAdapter, toModel } from './shape.ts';

export function toTraining(stored: StoredTraining, services: Services): Training {
  const { id, status, outputId, step, stepsTotal, epoch, loss, validationLoss, bestValidationLoss } = stored;
  const { learningRate, tokensPerSecond, trainableParameters, totalParameters, warnings } = stored;
  const { createdAt, finishedAt, error } = stored;
  const { lora } = stored.request as TrainingPlan;
  const isDone = status === 'succeeded';
  return {
    ...{ id, status, outputId, step, stepsTotal, epoch, loss, validationLoss, bestValidationLoss },
    ...{ learningRate, tokensPerSecond, trainableParameters, warnings, createdAt, finishedAt, error },
    method: lora === null ? 'full' : 'lora',
    etaSeconds: secondsLeft(stored, { done: step, atStart: stored.stepAtStart, total: stepsTotal }),
    trainableShare: trainableParameters / totalParameters,
    get model() {
      return modelOf(stored, services);
    },
    get adapter() {
      const adapter = isDone && lora !== null ? services.adapters.find(outputId) : undefined;
      return adapter?.source === sourceOf(outputId) ? toAdapter(adapter, services) : null;
    },
    get outputModel() {
      const model = isDone && lora === null ? services.models.find(outputId) : undefined;
      return model?.source === sourceOf(outputId) ? toModel(model, services) : null;
    },
  };
}

function sourceOf(outputId: string): string {
  return `dir:${outputId}`;
}

function modelOf({ model, createdAt }: StoredTraining, services: Services): Model {
  const facts = model as TrainedModelFacts;
  const served = services.models.find(facts.id);
  if (served?.source === facts.source) return toModel(served, services);
  const nothing = { isDefault: false, memoryBytes: 0, activeAdapter: null, adapters: [] };
  return { ...facts, ...nothing, status: 'unloaded', loadedAt: createdAt };
}

export function toTrainingEvent(
  { cursor, training, measured }: RunEvent,
  services: Services,
): TrainingStep | TrainingValidation | TrainingFinished {
  const { type: _, sequence: _number, ...figures } = measured ?? { type: undefined, sequence: undefined };
  return { cursor, training: toTraining(training, services), ...figures };
}

export function toTrainingRequest(input: StartTrainingInput): TrainingRequest {
  return {
    modelId: input.model,
    method: input.method,
    outputId: input.outputId,
    dataset: input.dataset,
    split: input.split ?? DEFAULT_SPLIT,
    limit: input.limit ?? null,
    validationSplit: input.validationSplit ?? null,
    validationLimit: input.validationLimit ?? null,
    templateId: input.template ?? null,
    maxSourceTokens: input.maxSourceTokens ?? null,
    maxTargetTokens: input.maxTargetTokens ?? DEFAULT_TARGET_TOKENS,
    lora: toLora(input.lora),
    optimization: toOptimization(input),
    evaluateEverySteps: input.evaluateEverySteps ?? null,
  };
}

function toLora(lora: LoraInput | null | undefined): LoraRequest | null {
  if (lora === null || lora === undefined) return null;
  return {
    rank: lora.rank ?? defaultLora.rank,
    alpha: lora.alpha ?? defaultLora.alpha,
    dropout: lora.dropout ?? defaultLora.dropout,
    targetModules: lora.targetModules ?? null,
    useRslora: lora.useRslora ?? defaultLora.useRslora,
  };
}

function toOptimization(input: StartTrainingInput): OptimizationSettings {
  const settings = defaultOptimization;
  return {
    epochs: input.epochs ?? settings.epochs,
    maxSteps: input.maxSteps ?? settings.maxSteps,
    batchSize: input.batchSize ?? settings.batchSize,
    gradientAccumulation: input.gradientAccumulation ?? settings.gradientAccumulation,
    learningRate: input.learningRate ?? settings.learningRate,
    schedule: input.schedule ?? settings.schedule,
    warmupSteps: input.warmupSteps ?? settings.warmupSteps,
    weightDecay: input.weightDecay ?? settings.weightDecay,
    maxGradNorm: input.maxGradNorm ?? settings.maxGradNorm,
    labelSmoothing: input.labelSmoothing ?? settings.labelSmoothing,
    seed: input.seed ?? settings.seed,
  };
}
