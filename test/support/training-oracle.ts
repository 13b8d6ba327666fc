/** Reads the models, adapters and batches of the training oracle. */
import type { ModelConfig } from '../../src/runtime/models/model-config.ts';
import { parseConfig } from '../../src/runtime/models/parse-config.ts';
import { WeightFiles } from '../../src/storage/model-folder.ts';
import type { TrainingExample } from '../../src/training/graph/padded-batch.ts';
import type { TrainingGraphOptions } from '../../src/training/graph/training-graph.ts';
import type { TrainingMethod } from '../../src/training/graph/training-method.ts';
import { readJsonFile } from './oracle.ts';
import { readTensors } from './read-tensors.ts';

interface FamilyBatches {
  readonly examples: readonly TrainingExample[];
  readonly batches: readonly (readonly number[])[];
}

interface Batches {
  readonly t5: FamilyBatches;
  /** Labels are aligned with the inputs, which hold prompt and answer; -100: no label. */
  readonly gpt2: FamilyBatches;
}

interface AdapterConfig {
  readonly r: number;
  readonly lora_alpha: number;
  readonly use_rslora: boolean;
}

export async function readWeights(folder: string): Promise<Map<string, Float32Array>> {
  const files = await WeightFiles.open(folder);
  try {
    const tensors = new Map<string, Float32Array>();
    for (const name of files.names()) tensors.set(name, await files.read(name));
    return tensors;
  } finally {
    await files.close();
  }
}

function loraMethod(folder: string, names: Iterable<string>): TrainingMethod {
  const { r: rank, lora_alpha: alpha, use_rslora } = readJsonFile<AdapterConfig>(`${folder}/adapter_config.json`);
  const modules = [...names].map((name) => name.replace(/^base_model\.model\.(.*)\.lora_[AB]\.weight$/, '$1'));
  return { method: 'lora', modules: new Set(modules), rank, scaling: alpha / (use_rslora ? Math.sqrt(rank) : rank) };
}

/** What a training graph of an oracle's model takes; `adapter`: the folder of an adapter to be trained. */
export async function oracleModel(
  folder: string,
  adapter?: string,
): Promise<Pick<TrainingGraphOptions, 'config' | 'tensors' | 'method'>> {
  const config = parseConfig(readJsonFile(`${folder}/config.json`));
  const tensors = await readWeights(folder);
  if (adapter === undefined) return { config, tensors, method: { method: 'full' } };
  const factors = await readTensors(`${adapter}/adapter_model.safetensors`);
  return { config, tensors: new Map([...tensors, ...factors]), method: loraMethod(adapter, factors.keys()) };
}

/** The batches of a model's family. */
export function oracleBatches(
  root: string,
  { family }: Pick<ModelConfig, 'family'>,
): readonly (readonly TrainingExample[])[] {
  const all = readJsonFile<Batches>(`${root}/batches.json`);
  const { examples, batches } = family === 't5' ? all.t5 : all.gpt2;
  const own = family === 't5' ? examples : examples.map(answerAlone);
  return batches.map((batch) => batch.map((index) => own[index] as TrainingExample));
}

const NO_LABEL = -100;

/** From labels that are as long as prompt and answer to those of the answer. */
function answerAlone({ inputIds, labels }: TrainingExample): TrainingExample {
  const start = labels.findIndex((label) => label !== NO_LABEL);
  return { inputIds: inputIds.slice(0, start), labels: labels.slice(start) };
}

export function normOf(values: Iterable<number>): number {
  let sum = 0;
  for (const value of values) sum += value * value;
  return Math.sqrt(sum);
}

export function distanceBetween(left: Float32Array, right: Float32Array): number {
  return normOf(left.map((value, index) => value - (right[index] as number)));
}
