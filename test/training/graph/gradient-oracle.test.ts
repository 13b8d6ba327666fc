/** Loss and gradients at step 0 are PyTorch's, for full training and LoRA. */
import assert from 'node:assert/strict';
import { TrainingGraph } from '../../../src/training/graph/training-graph.ts';
import { oracleTest, readJsonFile } from '../../support/oracle.ts';
import { readTensors } from '../../support/read-tensors.ts';
import { distanceBetween, normOf, oracleBatches, oracleModel } from '../../support/training-oracle.ts';

interface GradientCase {
  readonly file: string;
  readonly model: string;
  readonly adapter?: string;
  readonly batch: number;
  readonly labelSmoothing: number;
  readonly loss: number;
  readonly gradientNorm: number;
}

async function checkCase(root: string, expected: GradientCase, options: { recompute?: boolean; lossChunks?: number }) {
  const { adapter, labelSmoothing } = expected;
  const model = await oracleModel(
    `${root}/models/${expected.model}`,
    adapter === undefined ? undefined : `${root}/${adapter}`,
  );
  const graph = await TrainingGraph.create({ ...model, threadCount: 1, ...options, labelSmoothing });
  const { lossSum, tokenCount, gradients } = await graph.run(oracleBatches(root, model.config)[expected.batch] ?? []);
  await graph.dispose();
  const where = JSON.stringify({ file: expected.file, ...options });
  assert.ok(Math.abs(lossSum / tokenCount / expected.loss - 1) <= 1e-5, `${where}: loss ${lossSum / tokenCount}`);
  const reference = await readTensors(`${root}/gradients/${expected.file}`);
  assert.deepEqual([...gradients.keys()].sort(), [...reference.keys()].sort());
  let squares = 0;
  for (const [name, own] of gradients) {
    const mean = own.map((value) => value / tokenCount);
    const wanted = reference.get(name) as Float32Array;
    const [size, distance] = [normOf(wanted), distanceBetween(mean, wanted)];
    assert.ok(distance <= 1e-4 * size, `${where}: ${name} differs by ${distance} of ${size}`);
    squares += normOf(mean) ** 2;
  }
  assert.ok(Math.abs(Math.sqrt(squares) / expected.gradientNorm - 1) <= 1e-4, `${where}: norm ${Math.sqrt(squares)}`);
}

for (const file of [
  't5-gated-untied',
  't5-relu-tied',
  'lora-qv',
  'lora-all-rslora',
  'lora-accumulation-smoothing',
  'gpt2',
  'gpt2-lora',
]) {
  oracleTest(`${file}: loss and gradients of PyTorch`, 'oracle/training', async (root) => {
    const cases = readJsonFile<readonly GradientCase[]>(`${root}/gradients/index.json`);
    const expected = cases.find((one) => one.file === `${file}.safetensors`);
    assert.ok(expected !== undefined, `${file} is in the index`);
    for (const recompute of [false, true])
      for (const lossChunks of [1, 3]) await checkCase(root, expected, { recompute, lossChunks });
  });
}
