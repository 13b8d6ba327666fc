/** AdamW and the schedules by hand, and laws of a step: what is accumulated is one batch, what is clipped is shorter. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TrainingExample } from '../../../src/training/graph/padded-batch.ts';
import { TrainingGraph } from '../../../src/training/graph/training-graph.ts';
import { AdamW, decaysByTrainer } from '../../../src/training/optimizer/adamw.ts';
import { learningRateAt } from '../../../src/training/optimizer/learning-rate.ts';
import { type UpdateSettings, WeightUpdater } from '../../../src/training/optimizer/weight-update.ts';
import { parseT5Config } from '../../support/t5-config.ts';
import { tinyConfig, tinyTensors } from '../../support/tiny-model.ts';
import { distanceBetween, normOf } from '../../support/training-oracle.ts';

test('two steps of AdamW, reckoned by hand', async () => {
  const weight = Float32Array.of(1, -2);
  const adamw = new AdamW(new Map([['w', weight]]), { weightDecay: 0.5 });
  await adamw.update(new Map([['w', Float32Array.of(4, -1)]]), { step: 1, scale: 0.5, learningRate: 0.1 });
  // the first step is as long as the rate, whatever the gradient; decay takes 0.1 · 0.5
  assert.ok(distanceBetween(weight, Float32Array.of(1 * 0.95 - 0.1, -2 * 0.95 + 0.1)) < 1e-6);
  await adamw.update(new Map([['w', Float32Array.of(0, 0)]]), { step: 2, scale: 1, learningRate: 0.1 });
  const m = (0.9 * 0.1 * 2) / (1 - 0.9 ** 2);
  const v = (0.999 * 0.001 * 4) / (1 - 0.999 ** 2);
  assert.ok(Math.abs((weight[0] as number) - (0.85 * 0.95 - (0.1 * m) / Math.sqrt(v))) < 1e-6);
  await adamw.dispose();
});

test('tensors longer than a piece are updated like any other, number by number, whatever the number of threads', async () => {
  const length = 2 ** 18 * 2 + 77;
  const at = (index: number): number => Math.fround(Math.sin(index) * 0.1);
  const update = async (threadCount: number, count: number, offset: number): Promise<Float32Array> => {
    const weight = Float32Array.from({ length: count }, (_, index) => at(3 * (offset + index)));
    const gradient = Float32Array.from({ length: count }, (_, index) => at(offset + index));
    const adamw = new AdamW(new Map([['w', weight]]), { weightDecay: 0.01, threadCount });
    for (const step of [1, 2]) await adamw.update(new Map([['w', gradient]]), { step, scale: 0.5, learningRate: 0.01 });
    await adamw.dispose();
    return weight;
  };
  const whole = await update(1, length, 0);
  assert.deepEqual(await update(2, length, 0), whole);
  for (const offset of [0, 2 ** 18 - 1, length - 5]) {
    assert.deepEqual(await update(1, 5, offset), whole.subarray(offset, offset + 5));
  }
});

test('biases and norms do not decay', () => {
  const decaying = [
    'shared.weight',
    'decoder.block.0.layer.1.EncDecAttention.q.weight',
    'transformer.wpe.weight',
    'transformer.h.0.attn.c_attn.weight',
    'model.layers.0.mlp.down_proj.weight',
  ];
  const others = [
    'encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight',
    'encoder.final_layer_norm.weight',
    'encoder.block.0.layer.0.layer_norm.weight',
    'transformer.h.0.attn.c_attn.bias',
    'transformer.h.11.ln_2.weight',
    'transformer.ln_f.weight',
    'model.layers.0.input_layernorm.weight',
    'model.norm.weight',
  ];
  assert.deepEqual([...decaying, ...others].filter(decaysByTrainer), decaying);
});

test('schedules: the rise, the highest rate, the end', () => {
  const rates = (schedule: UpdateSettings['schedule']): readonly number[] =>
    [0, 1, 2, 4, 6].map((step) => learningRateAt({ learningRate: 8, schedule, warmupSteps: 2, stepsTotal: 6 }, step));
  assert.deepEqual(rates('constant'), [0, 4, 8, 8, 8]);
  assert.deepEqual(rates('linear'), [0, 4, 8, 4, 0]);
  const cosine = rates('cosine').map((rate) => Math.round(rate * 1e9) / 1e9);
  assert.deepEqual(cosine, [0, 4, 8, 4, 0]);
  assert.equal(learningRateAt({ learningRate: 8, schedule: 'linear', warmupSteps: 0, stepsTotal: 6 }, 0), 8);
});

const EXAMPLES: readonly TrainingExample[] = [
  { inputIds: [7, 1], labels: [9, 30, 2, 1] },
  { inputIds: [5, 7, 7, 12, 1], labels: [4, 1] },
  { inputIds: [20, 21, 22, 1], labels: [17, 59, 3, 1] },
];
const SETTINGS: UpdateSettings = {
  learningRate: 0.01,
  schedule: 'constant',
  warmupSteps: 0,
  stepsTotal: 10,
  maxGradNorm: 0,
};

/** The tiny model after one step on these batches, and what the step said. */
async function stepOn(batches: readonly (readonly TrainingExample[])[], settings = SETTINGS) {
  const tensors = new Map([...tinyTensors()].map(([name, { data }]) => [name, data.slice()]));
  const config = parseT5Config(tinyConfig());
  const graph = await TrainingGraph.create({ config, tensors, method: { method: 'full' }, threadCount: 1 });
  const adamw = new AdamW(tensors, { weightDecay: 0 });
  const update = await new WeightUpdater(graph, adamw, settings).step(batches, 0);
  await graph.dispose();
  await adamw.dispose();
  return { update, tensors };
}

test('batches of one step count as one batch, token by token', async () => {
  const whole = await stepOn([EXAMPLES]);
  const parts = await stepOn([EXAMPLES.slice(0, 1), EXAMPLES.slice(1)]);
  assert.ok(Math.abs(whole.update.loss / parts.update.loss - 1) < 1e-6);
  assert.ok(Math.abs(whole.update.gradientNorm / parts.update.gradientNorm - 1) < 1e-5);
});

test('clipping shortens the gradient to the norm that is allowed; the norm is told as it was', async () => {
  // plain descent shows what AdamW hides: its first step does not depend on the gradient's length
  const free = await stepOn([EXAMPLES]);
  const clipped = await stepOn([EXAMPLES], { ...SETTINGS, maxGradNorm: free.update.gradientNorm / 1e9 });
  assert.equal(clipped.update.gradientNorm, free.update.gradientNorm);
  const moved = (tensors: ReadonlyMap<string, Float32Array>): number =>
    normOf([...tinyTensors()].map(([name, { data }]) => distanceBetween(tensors.get(name) as Float32Array, data)));
  // so short that epsilon, which is added to its root, counts
  assert.ok(moved(clipped.tensors) < 0.5 * moved(free.tensors));
  const loose = await stepOn([EXAMPLES], { ...SETTINGS, maxGradNorm: free.update.gradientNorm * 2 });
  assert.deepEqual(loose.tensors, free.tensors);
});

test('a loss that is no number changes no weight', async () => {
  const tensors = new Map([...tinyTensors()].map(([name, { data }]) => [name, data.slice()]));
  tensors.get('decoder.final_layer_norm.weight')?.fill(Number.NaN);
  const before = new Map([...tensors].map(([name, data]) => [name, data.slice()]));
  const config = parseT5Config(tinyConfig());
  const graph = await TrainingGraph.create({ config, tensors, method: { method: 'full' }, threadCount: 1 });
  const updater = new WeightUpdater(graph, new AdamW(tensors, { weightDecay: 0.1 }), SETTINGS);
  const { loss } = await updater.step([EXAMPLES], 0);
  await graph.dispose();
  assert.ok(Number.isNaN(loss));
  assert.deepEqual(tensors, before);
});
