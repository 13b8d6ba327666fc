/** The model of a training: its weights in arrays that are trained in place, and the factors of a new adapter. */

import { RuntimeError } from '../../runtime/errors.ts';
import { HEAD_PATH, type LinearModule } from '../../runtime/models/linear-module.ts';
import type { ModelConfig } from '../../runtime/models/model-config.ts';
import { type ModelFiles, readModelFiles, withModelErrors } from '../../runtime/models/model-files.ts';
import { checkModelTensors, embeddingsName, tensorShapes } from '../../runtime/models/model-modules.ts';
import { openModelWeights } from '../../runtime/models/model-weights.ts';
import { elementCount } from '../../runtime/tensor.ts';
import { findGguf } from '../../storage/model-folder.ts';
import { factorName, factorShapes, type LoraTraining, type TrainingMethod } from '../graph/training-method.ts';
import { selectLoraModules } from '../lora-modules.ts';
import { randomWords } from '../random-bits.ts';
import type { LoraSettings, TrainerPlaces, TrainingPlan } from './trainer-protocol.ts';

export interface TrainedModel {
  readonly files: ModelFiles;
  readonly config: ModelConfig;
  readonly method: TrainingMethod;
  /** The matrices that a LoRA adapts, in the order of the model; empty: every weight is trained. */
  readonly adapted: readonly LinearModule[];
  /** All weights, and the factors, by the names of their files. */
  readonly tensors: ReadonlyMap<string, Float32Array>;
  /** Those that are trained, and their shapes. */
  readonly trained: ReadonlyMap<string, Float32Array>;
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  readonly trainableParameters: number;
  readonly totalParameters: number;
}

const HEAD = `${HEAD_PATH}.weight`;
const WORDS = 2 ** 32;

/** Throws RuntimeError when the model cannot be read, or has none of the modules that are named. */
export async function openTrainedModel(plan: TrainingPlan, places: TrainerPlaces): Promise<TrainedModel> {
  const files = await readModelFiles(plan.modelSource, places.directories);
  const { config } = files;
  if (plan.lora === null) await checkFullFormat(files);
  const weights = await withModelErrors(() => readWeights(files.folder, config));
  const weightShapes = new Map(tensorShapes(config));
  if (weights.has(HEAD)) weightShapes.set(HEAD, [config.vocabularySize, config.hiddenSize]);
  const weightCount = countOf(weights);
  if (plan.lora === null) {
    const counts = { trainableParameters: weightCount, totalParameters: weightCount };
    const method = { method: 'full' } as const;
    return { files, config, method, adapted: [], tensors: weights, trained: weights, shapes: weightShapes, ...counts };
  }
  const adapted = selectLoraModules(config, plan.lora.targetModules);
  const method = loraMethod(plan.lora, adapted);
  const shapes = factorShapes(method, adapted);
  const factors = initialFactors(shapes, adapted, plan.optimization.seed);
  const trainableParameters = countOf(factors);
  return {
    files,
    config,
    method,
    adapted,
    tensors: new Map([...weights, ...factors]),
    trained: factors,
    shapes,
    trainableParameters,
    totalParameters: weightCount + trainableParameters,
  };
}

/** What is trained whole is written as it came, in Hugging Face's layout. Throws RuntimeError UNSUPPORTED_ARGUMENT. */
export async function checkFullFormat({ folder }: Pick<ModelFiles, 'folder'>): Promise<void> {
  if ((await withModelErrors(() => findGguf(folder))) === undefined) return;
  const message =
    'Expected a model in a folder of Hugging Face to train every weight of, a GGUF file came. Train a LoRA adapter beside it, or load the folder that the file was made from.';
  throw new RuntimeError('UNSUPPORTED_ARGUMENT', message, { argument: 'method' });
}

/** Weights by name; the head only where it is another matrix than the embeddings, as transformers ties them. */
async function readWeights(folder: string, config: ModelConfig): Promise<Map<string, Float32Array>> {
  const files = await openModelWeights(folder, config);
  try {
    checkModelTensors(config, files);
    const weights = new Map<string, Float32Array>();
    for (const name of tensorShapes(config).keys()) weights.set(name, await files.read(name));
    // a T5's files say by what they hold whether its head is tied
    if (config.family !== 't5' || !files.has(HEAD)) return weights;
    const head = await files.read(HEAD);
    const embeddings = weights.get(embeddingsName(config));
    if (head.some((value, index) => value !== embeddings?.[index])) weights.set(HEAD, head);
    return weights;
  } finally {
    await files.close();
  }
}

function loraMethod({ rank, alpha, useRslora, dropout }: LoraSettings, adapted: readonly LinearModule[]): LoraTraining {
  const modules = new Set(adapted.map(({ path }) => path));
  return { method: 'lora', modules, rank, scaling: alpha / (useRslora ? Math.sqrt(rank) : rank), dropout: dropout > 0 };
}

/** As PEFT begins: A uniform within ±1/√in (Kaiming's with a = √5), B zero, so that the first step sees the base. */
function initialFactors(
  shapes: ReadonlyMap<string, readonly number[]>,
  adapted: readonly LinearModule[],
  seed: number,
): Map<string, Float32Array> {
  const factors = new Map<string, Float32Array>();
  for (const [stream, { path, inSize }] of adapted.entries()) {
    const [a, b] = [factorName.a(path), factorName.b(path)];
    const bound = 1 / Math.sqrt(inSize);
    const length = elementCount(shapes.get(a) ?? []);
    const words = randomWords(seed, 'initial factors', { stream, place: 0, length });
    factors.set(
      a,
      Float32Array.from(words, (word) => ((2 * word) / WORDS - 1) * bound),
    );
    factors.set(b, new Float32Array(elementCount(shapes.get(b) ?? [])));
  }
  return factors;
}

function countOf(tensors: ReadonlyMap<string, Float32Array>): number {
  let count = 0;
  for (const { length } of tensors.values()) count += length;
  return count;
}
