/** Training graphs of tiny T5s: gradients are slopes of the loss, whatever the family, the method and the options. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HEAD_PATH } from '../../../src/runtime/models/linear-module.ts';
import { linearModules } from '../../../src/runtime/models/model-modules.ts';
import { TrainingGraph, type TrainingGraphOptions } from '../../../src/training/graph/training-graph.ts';
import { factorName, factorShapes, type LoraTraining } from '../../../src/training/graph/training-method.ts';
import { distanceOf } from '../../support/finite-differences.ts';
import { parseT5Config } from '../../support/t5-config.ts';
import { type TinyModelOptions, tinyConfig, tinyTensors } from '../../support/tiny-model.ts';
import {
  addFactors,
  calmer,
  checkBatch,
  checkOtherWays,
  checkSlopes,
  copyOf,
  EXAMPLES,
  everyModule,
  fixedMasks,
  runOnce,
  type SmallModel,
} from '../../support/training-graphs.ts';

/** Small, so that every slope can be taken. */
const CONFIG = { d_model: 8, d_kv: 3, d_ff: 10, num_heads: 2, num_layers: 2, num_decoder_layers: 2 };

type Tensors = ReadonlyMap<string, Float32Array>;

function factorsOf(tensors: Tensors, module: string): { readonly a: Float32Array; readonly b: Float32Array } {
  return {
    a: tensors.get(factorName.a(module)) as Float32Array,
    b: tensors.get(factorName.b(module)) as Float32Array,
  };
}

/** Calls `visit` with the numbers of every product b[out, rank] · a[rank, in] of a module. */
function visitProducts(
  { a, b }: ReturnType<typeof factorsOf>,
  rank: number,
  visit: (places: { readonly weight: number; readonly a: number; readonly b: number }) => void,
): void {
  const inSize = a.length / rank;
  for (let out = 0; out < b.length / rank; out++) {
    for (let row = 0; row < rank; row++) {
      for (let column = 0; column < inSize; column++) {
        visit({ weight: out * inSize + column, a: row * inSize + column, b: out * rank + row });
      }
    }
  }
}

/** The weights W + scaling · b a. */
function mergedWeights(tensors: Tensors, { modules, rank, scaling }: LoraTraining): Map<string, Float32Array> {
  const merged = new Map([...tensors].map(([name, data]) => [name, data.slice()]));
  for (const module of modules) {
    const weight = merged.get(`${module}.weight`) as Float32Array;
    const { a, b } = factorsOf(tensors, module);
    visitProducts({ a, b }, rank, (at) => {
      weight[at.weight] = (weight[at.weight] as number) + scaling * (b[at.b] as number) * (a[at.a] as number);
    });
  }
  return merged;
}

/** The gradients of a and b by that of W + scaling · b a. */
function factorGradients(
  ofWeight: Float32Array,
  tensors: Tensors,
  module: string,
  { rank, scaling }: LoraTraining,
): ReadonlyMap<string, readonly number[]> {
  const { a, b } = factorsOf(tensors, module);
  const ofA: number[] = new Array(a.length).fill(0);
  const ofB: number[] = new Array(b.length).fill(0);
  visitProducts({ a, b }, rank, (at) => {
    const slope = scaling * (ofWeight[at.weight] as number);
    ofA[at.a] = (ofA[at.a] as number) + slope * (b[at.b] as number);
    ofB[at.b] = (ofB[at.b] as number) + slope * (a[at.a] as number);
  });
  return new Map([
    [factorName.a(module), ofA],
    [factorName.b(module), ofB],
  ]);
}

function tiny(options: TinyModelOptions): SmallModel {
  const own = { ...options, config: { ...CONFIG, ...options.config } };
  return { config: parseT5Config(tinyConfig(own)), tensors: calmer(tinyTensors(own)), threadCount: 1 };
}

for (const gated of [false, true]) {
  const name = gated ? 'gated, untied head' : 'relu, tied head';
  test(`full training, ${name}: gradients are slopes`, () =>
    checkSlopes({ ...tiny({ gated }), method: { method: 'full' } }));

  test(`LoRA, ${name}: gradients of the factors follow from those of the merged matrices`, async () => {
    const model = tiny({ gated });
    const modules = new Set([...everyModule(model.config)].filter((path) => path !== HEAD_PATH));
    const method: LoraTraining = { method: 'lora', modules, rank: 2, scaling: 1.5 };
    addFactors(model, method);
    const adapted = await runOnce({ ...model, method });
    const merged = await runOnce({
      ...model,
      tensors: mergedWeights(model.tensors, method),
      method: { method: 'full' },
    });
    assert.ok(Math.abs(adapted.lossSum - merged.lossSum) < 1e-4);
    for (const module of modules) {
      const ofWeight = merged.gradients.get(`${module}.weight`) as Float32Array;
      const wanted = factorGradients(ofWeight, model.tensors, module, method);
      for (const [factor, values] of wanted) {
        const { distance, size } = distanceOf(adapted.gradients.get(factor) as Float32Array, values);
        assert.ok(distance <= 1e-4 * size, `the gradient of ${factor} differs by ${distance} of ${size}`);
      }
    }
  });
}

test('LoRA on every matrix, the head included: gradients are slopes', async () => {
  const model = tiny({ gated: true });
  const method: LoraTraining = { method: 'lora', modules: everyModule(model.config), rank: 2, scaling: 1.5 };
  addFactors(model, method);
  await checkSlopes({ ...model, method, labelSmoothing: 0.1 });
});

test('a tied head without a scale: gradients are slopes', async () => {
  const model = tiny({ gated: true });
  (model.tensors as Map<string, Float32Array>).delete('lm_head.weight');
  await checkSlopes({ ...model, method: { method: 'full' } });
});

test('LoRA with dropout: what is dropped has no part in loss and gradients', async () => {
  const model = tiny({ gated: true });
  const method: LoraTraining = {
    method: 'lora',
    modules: everyModule(model.config),
    rank: 2,
    scaling: 1,
    dropout: true,
  };
  addFactors(model, method);
  await checkSlopes({ ...model, method }, fixedMasks());
  const { dropout, ...plain } = method;
  const [dropped, kept] = [
    await TrainingGraph.create({ ...model, method }),
    await TrainingGraph.create({ ...model, method: plain }),
  ];
  const ones = await dropped.run(EXAMPLES, (_, length) => new Float32Array(length).fill(1));
  const zeros = await dropped.run(EXAMPLES, (_, length) => new Float32Array(length));
  const without = await kept.run(EXAMPLES);
  assert.ok(dropout);
  assert.ok(Math.abs(ones.lossSum - without.lossSum) < 1e-4);
  // b meets nothing but zeros
  assert.ok(
    [...zeros.gradients].every(([name, data]) => name.includes('lora_A') || data.every((value) => value === 0)),
  );
  await dropped.dispose();
  await kept.dispose();
});

test('recomputing, and taking the loss in chunks, change nothing but rounding', () =>
  checkOtherWays({ ...tiny({ gated: true }), method: { method: 'full' }, labelSmoothing: 0.1 }));

test('a batch is the sum of its examples: padding has no part in it', () =>
  checkBatch({ ...tiny({}), method: { method: 'full' } }));

test('the same batch gives the same bits, and weights are read as they are when a run begins', async () => {
  const options: TrainingGraphOptions = { ...tiny({ gated: true }), method: { method: 'full' } };
  const graph = await TrainingGraph.create(options);
  const first = await graph.run(EXAMPLES);
  const before = copyOf(first.gradients);
  const other = await graph.run(EXAMPLES.slice(1));
  assert.notEqual(other.lossSum, first.lossSum);
  const second = await graph.run(EXAMPLES);
  assert.equal(first.lossSum, second.lossSum);
  for (const [name, gradient] of before) assert.deepEqual(gradient, second.gradients.get(name));
  options.tensors.get('lm_head.weight')?.fill(0);
  const { lossSum, tokenCount } = await graph.run(EXAMPLES);
  assert.ok(Math.abs(lossSum / tokenCount - Math.log(options.config.vocabularySize)) < 1e-5);
  await graph.dispose();
});

test('LoRA with b = 0 has the loss of its base, gradients of its factors only, and those of a are zero', async () => {
  const model = tiny({});
  const { lossSum } = await runOnce({ ...model, method: { method: 'full' } });
  const modules = new Set([...everyModule(model.config)].filter((path) => /\.[qv]$/.test(path)));
  const method: LoraTraining = { method: 'lora', modules, rank: 3, scaling: 2 };
  addFactors(model, method);
  for (const [name, data] of model.tensors) if (name.includes('lora_B')) data.fill(0);
  const adapted = await runOnce({ ...model, method });
  assert.ok(Math.abs(adapted.lossSum - lossSum) < 1e-4);
  assert.deepEqual([...adapted.gradients.keys()], [...factorShapes(method, linearModules(model.config)).keys()]);
  for (const [name, gradient] of adapted.gradients) {
    assert.equal(
      gradient.every((value) => value === 0),
      name.includes('lora_A'),
      name,
    );
  }
});

test('a tensor of another size is named', async () => {
  const model = tiny({});
  (model.tensors as Map<string, Float32Array>).set('encoder.final_layer_norm.weight', new Float32Array(3));
  await assert.rejects(
    TrainingGraph.create({ ...model, method: { method: 'full' } }),
    /encoder.final_layer_norm.weight has 8 numbers, 3 came/,
  );
});
