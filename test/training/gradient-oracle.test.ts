/** Loss and gradients at step 0 are PyTorch's, for full training and LoRA. */
import assert from 'node:assert/strict';
import { parseT5Config } from '../../src/runtime/models/parse-config.ts';
import { WeightFiles } from '../../src/storage/model-folder.ts';
import { SafetensorsFile } from '../../src/storage/safetensors.ts';
import type { TrainingExample } from '../../src/training/batch-feeds.ts';
import { TrainingGraph } from '../../src/training/training-graph.ts';
import type { TrainingMethod } from '../../src/training/training-method.ts';
import { oracleTest, readJsonFile } from '../support/oracle.ts';

interface GradientCase {
  readonly file: string;
  readonly model: string;
  readonly adapter?: string;
  readonly batch: number;
  readonly labelSmoothing: number;
  readonly loss: number;
  readonly gradientNorm: number;
}

interface Batches {
  readonly t5: { readonly examples: readonly TrainingExample[]; readonly batches: readonly (readonly number[])[] };
}

interface AdapterConfig {
  readonly r: number;
  readonly lora_alpha: number;
  readonly use_rslora: boolean;
}

async function readAll(path: string): Promise<Map<string, Float32Array>> {
  const file = await SafetensorsFile.open(path);
  try {
    const tensors = new Map<string, Float32Array>();
    for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
    return tensors;
  } finally {
    await file.close();
  }
}

async function readWeights(folder: string): Promise<Map<string, Float32Array>> {
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

const norm = (values: Iterable<number>): number => {
  let sum = 0;
  for (const value of values) sum += value * value;
  return Math.sqrt(sum);
};

async function checkCase(root: string, expected: GradientCase, options: { recompute?: boolean; lossChunks?: number }) {
  const folder = `${root}/models/${expected.model}`;
  const config = parseT5Config(readJsonFile(`${folder}/config.json`));
  const tensors = await readWeights(folder);
  let method: TrainingMethod = { method: 'full' };
  if (expected.adapter !== undefined) {
    const factors = await readAll(`${root}/${expected.adapter}/adapter_model.safetensors`);
    for (const [name, data] of factors) tensors.set(name, data);
    method = loraMethod(`${root}/${expected.adapter}`, factors.keys());
  }
  const graph = await TrainingGraph.create({
    config,
    tensors,
    method,
    threadCount: 1,
    ...options,
    labelSmoothing: expected.labelSmoothing,
  });
  const { examples, batches } = readJsonFile<Batches>(`${root}/batches.json`).t5;
  const batch = (batches[expected.batch] ?? []).map((index) => examples[index] as TrainingExample);
  const { lossSum, tokenCount, gradients } = await graph.run(batch);
  await graph.dispose();
  const where = JSON.stringify({ file: expected.file, ...options });
  assert.ok(Math.abs(lossSum / tokenCount / expected.loss - 1) <= 1e-5, `${where}: loss ${lossSum / tokenCount}`);
  const reference = await readAll(`${root}/gradients/${expected.file}`);
  assert.deepEqual([...gradients.keys()].sort(), [...reference.keys()].sort());
  let squares = 0;
  for (const [name, own] of gradients) {
    const mean = own.map((value) => value / tokenCount);
    const wanted = reference.get(name) as Float32Array;
    const size = norm(wanted);
    const distance = norm(mean.map((value, index) => value - (wanted[index] as number)));
    assert.ok(distance <= 1e-4 * size, `${where}: ${name} differs by ${distance} of ${size}`);
    squares += norm(mean) ** 2;
  }
  assert.ok(Math.abs(Math.sqrt(squares) / expected.gradientNorm - 1) <= 1e-4, `${where}: norm ${Math.sqrt(squares)}`);
}

for (const file of ['t5-gated-untied', 't5-relu-tied', 'lora-qv', 'lora-all-rslora', 'lora-accumulation-smoothing']) {
  oracleTest(`${file}: loss and gradients of PyTorch`, 'oracle/training', async (root) => {
    const cases = readJsonFile<readonly GradientCase[]>(`${root}/gradients/index.json`);
    const expected = cases.find((one) => one.file === `${file}.safetensors`);
    assert.ok(expected !== undefined, `${file} is in the index`);
    for (const recompute of [false, true])
      for (const lossChunks of [1, 3]) await checkCase(root, expected, { recompute, lossChunks });
  });
}
