/** Trainings of tiny models on tiny datasets, each in folders of its own. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { defaultLoraTargets } from '../../src/runtime/models/model-modules.ts';
import { parseConfig } from '../../src/runtime/models/parse-config.ts';
import { train } from '../../src/training/run/trainer.ts';
import type { TrainerPlaces, TrainingPlan, TrainingProgress } from '../../src/training/run/trainer-protocol.ts';
import type { Cleanup } from './cleanup.ts';
import { writeDataset } from './dataset-files.ts';
import { readTensors } from './read-tensors.ts';
import { seededNumbers } from './seeded-numbers.ts';
import { writeTinyDecoderOnly } from './tiny-decoder-only.ts';
import { type TinyModel, type TinyModelOptions, temporaryFolder, writeTinyModel } from './tiny-model.ts';

/** Texts of the tiny tokenizer's words; a summary is the text's first three. */
export function tinyRows(count: number, seed = 1): readonly { id: string; dialogue: string; summary: string }[] {
  const next = seededNumbers(seed);
  return Array.from({ length: count }, (_, row) => {
    const words = Array.from({ length: 4 + Math.floor(next() * 12) }, () => `t${3 + Math.floor(next() * 50)}`);
    return { id: `row-${row}`, dialogue: words.join(' '), summary: words.slice(0, 3).join(' ') };
  });
}

export interface TinyTraining {
  readonly plan: TrainingPlan;
  readonly places: TrainerPlaces;
  readonly model: TinyModel;
}

type Changes = {
  readonly [Part in 'data' | 'optimization' | 'lora']?: Partial<TrainingPlan[Part]>;
} & Partial<Pick<TrainingPlan, 'evaluateEverySteps'>> & { readonly full?: boolean };

function tinyPlan(modelName: string, { data, optimization, lora, full, ...rest }: Changes): TrainingPlan {
  const factors = { rank: 4, alpha: 8, dropout: 0, targetModules: ['q', 'v'], useRslora: false };
  return {
    modelSource: `dir:${modelName}`,
    modelId: 'base',
    outputId: 'made',
    lora: full === true ? null : { ...factors, ...lora },
    data: {
      dataset: 'words',
      split: 'train',
      limit: null,
      validation: { split: 'validation', limit: null },
      templateId: 'plain',
      maxSourceTokens: 32,
      maxTargetTokens: 8,
      ...data,
    },
    optimization: {
      epochs: 2,
      maxSteps: null,
      batchSize: 4,
      gradientAccumulation: 1,
      learningRate: 0.01,
      schedule: 'linear',
      warmupSteps: 2,
      weightDecay: 0.01,
      maxGradNorm: 1,
      labelSmoothing: 0,
      seed: 1,
      ...optimization,
    },
    evaluateEverySteps: 4,
    threadCount: 1,
    ...rest,
  };
}

/** A T5, a dataset of 32 and 8 samples, and a plan to train on it: a LoRA unless `full` is asked for. */
export async function tinyTraining(
  t: Cleanup,
  changes: Changes = {},
  modelOptions: TinyModelOptions = {},
): Promise<TinyTraining> {
  return trainingOf(t, await writeTinyModel(t, modelOptions), changes);
}

/** The same of a GPT-2 or a Llama with this config.json. */
export async function tinyDecoderOnlyTraining(
  t: Cleanup,
  config: TinyModel['config'],
  changes: Changes = {},
): Promise<TinyTraining> {
  const targetModules = [...defaultLoraTargets[parseConfig(config).family]];
  const own = { ...changes, lora: { targetModules, ...changes.lora } };
  return trainingOf(t, await writeTinyDecoderOnly(t, config), own);
}

async function trainingOf(t: Cleanup, model: TinyModel, changes: Changes): Promise<TinyTraining> {
  const root = await temporaryFolder(t);
  await writeDataset(join(root, 'datasets'), 'words', {
    'train.jsonl': tinyRows(32),
    'validation.jsonl': tinyRows(8, 2),
  });
  const places = {
    directories: { embedded: join(root, 'none'), models: model.parent },
    datasets: { datasets: join(root, 'datasets'), embedded: join(root, 'none') },
    checkpoints: join(root, 'checkpoints'),
    output: join(root, 'out', 'made'),
    maxInputTokens: 64,
    checkpointMs: 0,
  };
  return { plan: tinyPlan(model.name, changes), places, model };
}

/** The same training with other folders for what it makes. */
export async function elsewhere(t: Cleanup, { places, ...training }: TinyTraining): Promise<TinyTraining> {
  const root = await temporaryFolder(t);
  const own = { checkpoints: join(root, 'checkpoints'), output: join(root, 'out', 'made') };
  return { ...training, places: { ...places, ...own } };
}

/** Events of a kind, in order. */
export function eventsOf<Type extends TrainingProgress['type']>(
  events: readonly TrainingProgress[],
  type: Type,
): readonly Extract<TrainingProgress, { readonly type: Type }>[] {
  return events.filter((event): event is Extract<TrainingProgress, { readonly type: Type }> => event.type === type);
}

/** What is the same in every run of a plan: all but how long it took. */
export function withoutTimes(events: readonly TrainingProgress[]): readonly unknown[] {
  return events.filter(({ type }) => type !== 'prepared').map((event) => ({ ...event, tokensPerSecond: undefined }));
}

interface Trained {
  readonly end: 'finished' | 'stopped';
  readonly events: readonly TrainingProgress[];
}

/** Trains in this process. `stopAfter`: the kind of event and the step after which it is told to leave off. */
export async function trainHere(
  { plan, places }: TinyTraining,
  stopAfter?: readonly ['step' | 'validation', number],
): Promise<Trained> {
  const events: TrainingProgress[] = [];
  const stopping = new AbortController();
  const end = await train(plan, places, {
    report: async (event) => {
      events.push(event);
      if (event.type === stopAfter?.[0] && event.step === stopAfter[1]) stopping.abort();
    },
    stored: async () => {},
    stopping: stopping.signal,
  });
  return { end, events };
}

/** The tensors that a training made. */
export function weightsOf({ plan, places }: TinyTraining): Promise<ReadonlyMap<string, Float32Array>> {
  return readTensors(join(places.output, plan.lora === null ? 'model.safetensors' : 'adapter_model.safetensors'));
}

export async function readObject(path: string): Promise<Record<string, unknown>> {
  return JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
}
