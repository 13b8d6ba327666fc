/** Loss and gradients at step 0 are PyTorch's, for full training and LoRA. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TrainingExample } from '../../../src/training/graph/padded-batch.ts';
import { TrainingGraph } from '../../../src/training/graph/training-graph.ts';
import { oracleTest, readJsonFile, repositoryPath } from '../../support/oracle.ts';
import { readTensors } from '../../support/read-tensors.ts';
import { distanceBetween, normOf, oracleBatches, oracleModel } from '../../support/training-oracle.ts';

interface GradientCase {
  readonly file: string;
  readonly model: string;
  readonly adapter?: string;
  /** Default 0. */
  readonly batch?: number;
  readonly labelSmoothing: number;
  readonly loss: number;
  readonly gradientNorm: number;
}

type Model = Awaited<ReturnType<typeof oracleModel>>;

/** What a case is checked with. */
interface CaseParts {
  readonly expected: GradientCase;
  readonly model: Model;
  readonly examples: readonly TrainingExample[];
  /** Path of the file with the gradients of the mean loss. */
  readonly gradients: string;
}

const WAYS = [false, true].flatMap((recompute) => [1, 3].map((lossChunks) => ({ recompute, lossChunks })));

async function checkCase(parts: CaseParts): Promise<void> {
  for (const way of WAYS) await checkWay(parts, way);
}

async function checkWay(
  { expected, model, examples, gradients: file }: CaseParts,
  options: (typeof WAYS)[number],
): Promise<void> {
  const { labelSmoothing } = expected;
  const graph = await TrainingGraph.create({ ...model, threadCount: 1, ...options, labelSmoothing });
  const { lossSum, tokenCount, gradients } = await graph.run(examples);
  await graph.dispose();
  const where = JSON.stringify({ file: expected.file, ...options });
  assert.ok(Math.abs(lossSum / tokenCount / expected.loss - 1) <= 1e-5, `${where}: loss ${lossSum / tokenCount}`);
  const reference = await readTensors(file);
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
    const { adapter } = expected;
    const model = await oracleModel(
      `${root}/models/${expected.model}`,
      adapter === undefined ? undefined : `${root}/${adapter}`,
    );
    const examples = oracleBatches(root, model.config)[expected.batch ?? 0] ?? [];
    await checkCase({ expected, model, examples, gradients: `${root}/gradients/${file}.safetensors` });
  });
}

interface LlamaGradients {
  readonly examples: readonly TrainingExample[];
  readonly cases: readonly GradientCase[];
}

const fixtures = repositoryPath('test/fixtures');
const llama = readJsonFile<LlamaGradients>(`${fixtures}/llama-gradients/index.json`);

for (const expected of llama.cases) {
  const { file, adapter } = expected;
  test(`${expected.model}, ${file}: loss and gradients of PyTorch`, async () => {
    const start = adapter === undefined ? undefined : `${fixtures}/llama-gradients/${adapter}`;
    const model = await oracleModel(`${fixtures}/${expected.model}`, start);
    await checkCase({ expected, model, examples: llama.examples, gradients: `${fixtures}/llama-gradients/${file}` });
  });
}
