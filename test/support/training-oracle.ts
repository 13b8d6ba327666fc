/** Reads the models, adapters and batches of the training oracle. */

import { WeightFiles } from '../../src/storage/model-folder.ts';
import type { TrainingExample } from '../../src/training/graph/batch-feeds.ts';
import type { TrainingGraphOptions } from '../../src/training/graph/training-graph.ts';
import type { TrainingMethod } from '../../src/training/graph/training-method.ts';
import { readJsonFile } from './oracle.ts';
import { readTensors } from './read-tensors.ts';
import { parseT5Config } from './t5-config.ts';

interface Batches {
  readonly t5: { readonly examples: readonly TrainingExample[]; readonly batches: readonly (readonly number[])[] };
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
  const config = parseT5Config(readJsonFile(`${folder}/config.json`));
  const tensors = await readWeights(folder);
  if (adapter === undefined) return { config, tensors, method: { method: 'full' } };
  const factors = await readTensors(`${adapter}/adapter_model.safetensors`);
  return { config, tensors: new Map([...tensors, ...factors]), method: loraMethod(adapter, factors.keys()) };
}

export function oracleBatches(root: string): readonly (readonly TrainingExample[])[] {
  const { examples, batches } = readJsonFile<Batches>(`${root}/batches.json`).t5;
  return batches.map((batch) => batch.map((index) => examples[index] as TrainingExample));
}

export function normOf(values: Iterable<number>): number {
  let sum = 0;
  for (const value of values) sum += value * value;
  return Math.sqrt(sum);
}

export function distanceBetween(left: Float32Array, right: Float32Array): number {
  return normOf(left.map((value, index) => value - (right[index] as number)));
}
