/** Thirty to forty steps of training go where PyTorch's go: loss, norm, rate, and the weights at the end. */
import assert from 'node:assert/strict';
import type { TrainingExample } from '../../../src/training/graph/padded-batch.ts';
import { TrainingGraph } from '../../../src/training/graph/training-graph.ts';
import { AdamW, decaysByTrainer } from '../../../src/training/optimizer/adamw.ts';
import type { LearningRateSchedule } from '../../../src/training/optimizer/learning-rate.ts';
import { WeightUpdater } from '../../../src/training/optimizer/weight-update.ts';
import { oracleTest, readJsonFile } from '../../support/oracle.ts';
import { readTensors } from '../../support/read-tensors.ts';
import { distanceBetween, normOf, oracleBatches, oracleModel } from '../../support/training-oracle.ts';

interface Trajectory {
  readonly model: string;
  readonly method: 'LORA' | 'FULL';
  readonly learningRate: number;
  readonly schedule: Uppercase<LearningRateSchedule>;
  readonly warmupSteps: number;
  readonly stepsTotal: number;
  readonly weightDecay: number;
  readonly weightDecayRule: 'ALL' | 'TRAINER';
  readonly betas: readonly [number, number];
  readonly epsilon: number;
  readonly weightDecayParameters: readonly string[];
  readonly maxGradNorm: number;
  readonly labelSmoothing: number;
  readonly batchOrder: readonly (readonly number[])[];
  readonly steps: readonly { readonly loss: number; readonly gradientNorm: number; readonly learningRate: number }[];
  readonly finalLossPerBatch: readonly number[];
}

function close(own: number, wanted: number, tolerance: number, what: string): void {
  assert.ok(Math.abs(own - wanted) <= tolerance * Math.abs(wanted), `${what}: ${own}, expected ${wanted}`);
}

/** Everything that is trained, by name, as the gradients of a graph name it. */
function trainedOf(tensors: ReadonlyMap<string, Float32Array>, lora: boolean): Map<string, Float32Array> {
  return new Map([...tensors].filter(([name]) => !lora || name.includes('.lora_')));
}

/** The bias of GPT-2's keys, a third of its tensor, has gradient 0 but for rounding, which AdamW makes steps of. */
function withoutKeyBias(name: string, data: Float32Array): Float32Array {
  if (!name.endsWith('.c_attn.bias')) return data;
  const third = data.length / 3;
  return Float32Array.of(...data.subarray(0, third), ...data.subarray(2 * third));
}

async function checkFinalLosses(
  model: Awaited<ReturnType<typeof oracleModel>>,
  batches: readonly (readonly TrainingExample[])[],
  wanted: readonly number[],
): Promise<void> {
  const graph = await TrainingGraph.create({ ...model, threadCount: 1, forwardOnly: true });
  for (const [index, batch] of batches.entries()) {
    const { lossSum, tokenCount, gradients } = await graph.run(batch);
    assert.equal(gradients.size, 0);
    close(lossSum / tokenCount, wanted[index] as number, 1e-5, `final loss of batch ${index}`);
  }
  await graph.dispose();
}

async function checkTrajectory(root: string, name: string): Promise<void> {
  const folder = `${root}/trajectories/${name}`;
  const expected = readJsonFile<Trajectory>(`${folder}/trajectory.json`);
  const lora = expected.method === 'LORA';
  const model = await oracleModel(`${root}/models/${expected.model}`, lora ? `${folder}/adapter-initial` : undefined);
  const trained = trainedOf(model.tensors, lora);
  const start = new Map([...trained].map(([tensor, data]) => [tensor, data.slice()]));
  const decays = expected.weightDecayRule === 'ALL' ? () => true : decaysByTrainer;
  if (expected.weightDecay > 0) {
    assert.deepEqual([...trained.keys()].filter(decays).sort(), [...expected.weightDecayParameters].sort());
  }
  const graph = await TrainingGraph.create({ ...model, threadCount: 1, labelSmoothing: expected.labelSmoothing });
  const schedule = expected.schedule.toLowerCase() as LearningRateSchedule;
  const adamw = new AdamW(trained, { ...expected, decays });
  const updater = new WeightUpdater(graph, adamw, { ...expected, schedule });
  const batches = oracleBatches(root, model.config);
  for (const [step, wanted] of expected.steps.entries()) {
    const chosen = (expected.batchOrder[step] ?? []).map((index) => batches[index] ?? []);
    const own = await updater.step(chosen, step);
    close(own.loss, wanted.loss, 1e-5, `loss of step ${step}`);
    close(own.gradientNorm, wanted.gradientNorm, 1e-4, `norm of step ${step}`);
    close(own.learningRate, wanted.learningRate, 1e-12, `rate of step ${step}`);
  }
  await graph.dispose();
  await adamw.dispose();
  const reference = await readTensors(
    lora ? `${folder}/adapter-final/adapter_model.safetensors` : `${folder}/weights.safetensors`,
  );
  assert.deepEqual([...trained.keys()].sort(), [...reference.keys()].sort());
  for (const [tensor, data] of trained) {
    const wanted = withoutKeyBias(tensor, reference.get(tensor) as Float32Array);
    const distance = distanceBetween(withoutKeyBias(tensor, data), wanted);
    const movement = distanceBetween(wanted, withoutKeyBias(tensor, start.get(tensor) as Float32Array));
    assert.ok(distance <= 1e-4 * normOf(wanted), `${tensor} ends ${distance} away, of ${normOf(wanted)}`);
    assert.ok(distance <= 1e-2 * movement, `${tensor} ends ${distance} away, having moved by ${movement}`);
  }
  await checkFinalLosses(model, batches, expected.finalLossPerBatch);
}

for (const name of [
  'full-constant',
  'full-linear-decay-all',
  'full-linear-decay-trainer',
  'full-accumulation',
  'full-label-smoothing',
  'lora-qv',
  'lora-all-rslora',
  'lora-accumulation-smoothing',
  'gpt2-full',
  'gpt2-lora',
]) {
  oracleTest(`${name}: the trajectory of PyTorch`, 'oracle/training', (root) => checkTrajectory(root, name));
}
