/** Training graphs of tiny T5s: gradients are slopes of the loss, whatever the family, the method and the options. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { uniform } from '../../../src/runtime/decoding/random.ts';
import { HEAD_PATH } from '../../../src/runtime/models/linear-module.ts';
import { t5LinearModules } from '../../../src/runtime/t5/t5-modules.ts';
import type { TrainingExample } from '../../../src/training/graph/batch-feeds.ts';
import {
  type DropoutMasks,
  TrainingGraph,
  type TrainingGraphOptions,
  type TrainingStep,
} from '../../../src/training/graph/training-graph.ts';
import { factorName, factorShapes, type LoraTraining } from '../../../src/training/graph/training-method.ts';
import { distanceOf, slopesOf } from '../../support/finite-differences.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';
import { parseT5Config } from '../../support/t5-config.ts';
import { type TinyModelOptions, tinyConfig, tinyTensors } from '../../support/tiny-model.ts';

/** Sources longer than the farthest distance that the bias tells apart are among them. */
const EXAMPLES: readonly TrainingExample[] = [
  { inputIds: [7, 1], labels: [9, 30, 2, 1] },
  { inputIds: Array.from({ length: 23 }, (_, place) => 3 + ((place * 11) % 50)), labels: [30, 1] },
  { inputIds: [5, 7, 7, 12, 1], labels: [4, 4, 17, 59, 3, 1] },
];
/** Small, so that every slope can be taken. */
const CONFIG = { d_model: 8, d_kv: 3, d_ff: 10, num_heads: 2, num_layers: 2, num_decoder_layers: 2 };
const CHECKED_EACH = 12;
/** Layers bend the loss: differences are taken over little, and rounding shows in them. */
const STEP = 0.004;
const ROUNDING = 5e-3;
/** Of the weights of tiny models: attention that is nearly all or nothing has no slopes to speak of. */
const CALMER = 0.5;

function tiny(options: TinyModelOptions): Pick<TrainingGraphOptions, 'config' | 'tensors' | 'threadCount'> {
  const own = { ...options, config: { ...CONFIG, ...options.config } };
  const tensors = new Map<string, Float32Array>();
  for (const [name, { data }] of tinyTensors(own))
    tensors.set(
      name,
      Float32Array.from(data, (value) => value * CALMER),
    );
  return { config: parseT5Config(tinyConfig(own)), tensors, threadCount: 1 };
}

function addFactors({ config, tensors }: ReturnType<typeof tiny>, lora: LoraTraining): void {
  const next = seededNumbers(5);
  for (const [name, [rows = 0, columns = 0]] of factorShapes(lora, t5LinearModules(config))) {
    (tensors as Map<string, Float32Array>).set(
      name,
      Float32Array.from({ length: rows * columns }, () => next() - 0.5),
    );
  }
}

function everyModule(config: TrainingGraphOptions['config']): ReadonlySet<string> {
  return new Set(t5LinearModules(config).map(({ path }) => path));
}

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

/** Of each tensor, CHECKED_EACH numbers spread over it. */
async function checkSlopes(options: TrainingGraphOptions, masks?: DropoutMasks): Promise<void> {
  const graph = await TrainingGraph.create(options);
  try {
    const gradients = copyOf((await graph.run(EXAMPLES, masks)).gradients);
    const loss = async (): Promise<number> => (await graph.run(EXAMPLES, masks)).lossSum;
    for (const [name, gradient] of gradients) {
      const data = options.tensors.get(name) as Float32Array;
      const stride = Math.ceil(data.length / CHECKED_EACH);
      // a row of the embeddings that is read, and one that is not
      const places = Array.from({ length: Math.ceil(data.length / stride) }, (_, index) => index * stride);
      const slopes: number[] = [];
      for (const place of places) slopes.push(...(await slopesOf(loss, data.subarray(place, place + 1), STEP)));
      const { distance, size } = distanceOf(
        places.map((place) => gradient[place] as number),
        slopes,
      );
      assert.ok(distance <= 2e-3 * size + ROUNDING, `the gradient of ${name} differs by ${distance} of ${size}`);
    }
  } finally {
    await graph.dispose();
  }
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
  const masks: DropoutMasks = (module, length) =>
    Float32Array.from({ length }, (_, index) => (uniform(module.length, 0, index) < 0.3 ? 0 : 1 / 0.7));
  await checkSlopes({ ...model, method }, masks);
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

/** What a run gave, kept from the next one. */
function copyOf(gradients: TrainingStep['gradients']): TrainingStep['gradients'] {
  return new Map([...gradients].map(([name, data]) => [name, data.slice()]));
}

async function runOnce(options: TrainingGraphOptions, examples = EXAMPLES) {
  const graph = await TrainingGraph.create(options);
  try {
    return await graph.run(examples);
  } finally {
    await graph.dispose();
  }
}

test('recomputing, and taking the loss in chunks, change nothing but rounding', async () => {
  const options: TrainingGraphOptions = { ...tiny({ gated: true }), method: { method: 'full' }, labelSmoothing: 0.1 };
  const wanted = await runOnce(options);
  for (const other of [{ recompute: true }, { lossChunks: 3 }, { recompute: true, lossChunks: 20 }]) {
    const { lossSum, gradients } = await runOnce({ ...options, ...other });
    assert.ok(Math.abs(lossSum - wanted.lossSum) < 1e-4);
    for (const [name, gradient] of gradients) {
      const { distance, size } = distanceOf(gradient, wanted.gradients.get(name) as Float32Array);
      assert.ok(distance <= 1e-5 * size, `${JSON.stringify(other)}: ${name} differs by ${distance} of ${size}`);
    }
  }
});

test('a batch is the sum of its examples: padding has no part in it', async () => {
  const options: TrainingGraphOptions = { ...tiny({}), method: { method: 'full' } };
  const { lossSum, tokenCount, gradients } = await runOnce(options);
  const alone: TrainingStep[] = [];
  for (const example of EXAMPLES) alone.push(await runOnce(options, [example]));
  assert.equal(tokenCount, 12);
  assert.ok(Math.abs(alone.reduce((sum, one) => sum + one.lossSum, 0) - lossSum) < 1e-3);
  for (const [name, gradient] of gradients) {
    const summed = gradient.map((_, index) =>
      alone.reduce((sum, one) => sum + (one.gradients.get(name)?.[index] as number), 0),
    );
    const { distance, size } = distanceOf(gradient, summed);
    assert.ok(distance <= 1e-4 * size, `${name} differs by ${distance} of ${size}`);
  }
});

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
  assert.deepEqual([...adapted.gradients.keys()], [...factorShapes(method, t5LinearModules(model.config)).keys()]);
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
