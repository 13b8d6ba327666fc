/** What tests of training graphs hold against each other: slopes, batches and their examples, ways to the same gradients. */
import assert from 'node:assert/strict';
import { uniform } from '../../src/runtime/decoding/random.ts';
import { linearModules } from '../../src/runtime/models/model-modules.ts';
import type { TensorToWrite } from '../../src/storage/safetensors.ts';
import type { TrainingExample } from '../../src/training/graph/padded-batch.ts';
import {
  type DropoutMasks,
  TrainingGraph,
  type TrainingGraphOptions,
  type TrainingStep,
} from '../../src/training/graph/training-graph.ts';
import { factorShapes, type LoraTraining } from '../../src/training/graph/training-method.ts';
import { distanceOf, slopesOf } from './finite-differences.ts';
import { seededNumbers } from './seeded-numbers.ts';

/** Sources longer than the farthest distance that the bias tells apart are among them. */
export const EXAMPLES: readonly TrainingExample[] = [
  { inputIds: [7, 1], labels: [9, 30, 2, 1] },
  { inputIds: Array.from({ length: 23 }, (_, place) => 3 + ((place * 11) % 50)), labels: [30, 1] },
  { inputIds: [5, 7, 7, 12, 1], labels: [4, 4, 17, 59, 3, 1] },
];
const CHECKED_EACH = 12;
/** Layers bend the loss: differences are taken over little, and rounding shows in them. */
const STEP = 0.004;
const ROUNDING = 5e-3;
/** Of the weights of tiny models: attention that is nearly all or nothing has no slopes to speak of. */
const CALMER = 0.5;

export type SmallModel = Pick<TrainingGraphOptions, 'config' | 'tensors' | 'threadCount'>;

export function calmer(tensors: ReadonlyMap<string, TensorToWrite>): Map<string, Float32Array> {
  const calm = (data: Iterable<number>): Float32Array => Float32Array.from(data, (value) => value * CALMER);
  return new Map([...tensors].map(([name, { data }]) => [name, calm(data)]));
}

/** Random factors beside the weights. */
export function addFactors({ config, tensors }: SmallModel, lora: LoraTraining): void {
  const next = seededNumbers(5);
  for (const [name, [rows = 0, columns = 0]] of factorShapes(lora, linearModules(config))) {
    (tensors as Map<string, Float32Array>).set(
      name,
      Float32Array.from({ length: rows * columns }, () => next() - 0.5),
    );
  }
}

export function everyModule(config: TrainingGraphOptions['config']): ReadonlySet<string> {
  return new Set(linearModules(config).map(({ path }) => path));
}

/** The same masks in every run, each drawn once. */
export function fixedMasks(): DropoutMasks {
  const drawn = new Map<string, Float32Array>();
  return (module, length) => {
    const known = drawn.get(module);
    if (known !== undefined) return known;
    const mask = Float32Array.from({ length }, (_, index) => (uniform(module.length, 0, index) < 0.3 ? 0 : 1 / 0.7));
    drawn.set(module, mask);
    return mask;
  };
}

/** Of each tensor, CHECKED_EACH numbers spread over it. */
export async function checkSlopes(options: TrainingGraphOptions, masks?: DropoutMasks): Promise<void> {
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

/** What a run gave, kept from the next one. */
export function copyOf(gradients: TrainingStep['gradients']): TrainingStep['gradients'] {
  return new Map([...gradients].map(([name, data]) => [name, data.slice()]));
}

export async function runOnce(options: TrainingGraphOptions, examples = EXAMPLES) {
  const graph = await TrainingGraph.create(options);
  try {
    return await graph.run(examples);
  } finally {
    await graph.dispose();
  }
}

/** Recomputing, and taking the loss in chunks, change nothing but rounding. */
export async function checkOtherWays(options: TrainingGraphOptions): Promise<void> {
  const wanted = await runOnce(options);
  for (const other of [{ recompute: true }, { lossChunks: 3 }, { recompute: true, lossChunks: 20 }]) {
    const { lossSum, gradients } = await runOnce({ ...options, ...other });
    assert.ok(Math.abs(lossSum - wanted.lossSum) < 1e-4);
    for (const [name, gradient] of gradients) {
      const { distance, size } = distanceOf(gradient, wanted.gradients.get(name) as Float32Array);
      assert.ok(distance <= 1e-5 * size, `${JSON.stringify(other)}: ${name} differs by ${distance} of ${size}`);
    }
  }
}

/** A batch is the sum of its examples: padding has no part in it. */
export async function checkBatch(options: TrainingGraphOptions): Promise<void> {
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
}
