/** Holds gradients that a graph computes against differences of its outputs, element by element. */
import assert from 'node:assert/strict';
import { addGradients } from '../../src/runtime/graph/gradient.ts';
import { GraphBuilder, type Value } from '../../src/runtime/graph/graph-builder.ts';
import type { Dimension } from '../../src/runtime/graph/model-proto.ts';
import type { NodeRange } from '../../src/runtime/graph/recomputation.ts';
import { inferDims } from '../../src/runtime/graph/value-dims.ts';
import { Session } from '../../src/runtime/session.ts';
import { elementCount, floatTensor, type TensorValue } from '../../src/runtime/tensor.ts';
import { seededNumbers } from './seeded-numbers.ts';

/** Where functions with a kink at 0 are not looked at. */
const LEAST_SIZE = 0.2;
const TOLERANCE = 1e-3;

export interface DifferenceCase {
  readonly name: string;
  readonly seed: number;
  /** Inputs whose gradients are checked: their dimensions. */
  readonly inputs: Readonly<Record<string, readonly number[]>>;
  /** How the graph declares an input; absent: by its dimensions. */
  readonly declared?: Readonly<Record<string, readonly Dimension[]>>;
  /** Makes numbers positive, for logarithms and roots. */
  readonly positive?: boolean;
  /** Nodes of the graph that are computed again on the way back. */
  readonly recomputed?: readonly NodeRange[];
  /** Returns values whose weighted sums are the loss. */
  readonly build: (graph: GraphBuilder, inputs: Readonly<Record<string, Value>>) => readonly Value[];
}

/** Numbers from LEAST_SIZE to 1 with either sign. */
function draw(next: () => number, length: number, positive: boolean): Float32Array {
  return Float32Array.from({ length }, () => {
    const size = LEAST_SIZE + (1 - LEAST_SIZE) * next();
    return positive || next() < 0.5 ? size : -size;
  });
}

/** Central differences of the fourth order: exact but for rounding at this step. */
async function slope(loss: (x: number) => Promise<number>, at: number, step: number): Promise<number> {
  const near = (await loss(at + step)) - (await loss(at - step));
  const far = (await loss(at + 2 * step)) - (await loss(at - 2 * step));
  return (8 * near - far) / (12 * step);
}

export function distanceOf(one: Iterable<number>, other: ArrayLike<number>): { distance: number; size: number } {
  let [distance, size, index] = [0, 0, 0];
  for (const value of one) {
    const wanted = other[index++] as number;
    distance += (value - wanted) ** 2;
    size += wanted ** 2;
  }
  return { distance: Math.sqrt(distance), size: Math.sqrt(size) };
}

/** Declares the inputs of a case and what it builds of them. */
function buildForward(one: DifferenceCase): {
  graph: GraphBuilder;
  inputs: readonly Value[];
  outputs: readonly Value[];
} {
  const graph = new GraphBuilder(one.name);
  const values: Record<string, Value> = {};
  for (const [name, dims] of Object.entries(one.inputs)) {
    values[name] = graph.input(name, 'float32', one.declared?.[name] ?? dims);
  }
  const outputs = one.build(graph, values);
  return { graph, inputs: Object.values(values), outputs };
}

/** Outputs: output.N. */
async function forwardSession(one: DifferenceCase): Promise<Session> {
  const { graph, outputs } = buildForward(one);
  const dims = inferDims(graph.recorded);
  for (const [index, output] of outputs.entries()) {
    graph.output(output, `output.${index}`, 'float32', dims.get(output) ?? []);
  }
  return Session.create(graph.build(), { threadCount: 1 });
}

/** Inputs: those of the case and seed.N, as long as output.N; outputs: NAME.gradient. */
async function backwardSession(one: DifferenceCase): Promise<Session> {
  const { graph, inputs, outputs } = buildForward(one);
  const seeds = outputs.map((output, index) => {
    const seed = graph.input(`seed.${index}`, 'float32', [`seed.${index}`]);
    return [output, graph.node('Reshape', [seed, graph.node('Shape', [output])])] as const;
  });
  const { recomputed = [] } = one;
  const gradients = addGradients(graph, { seeds: new Map(seeds), wanted: inputs, recomputed });
  for (const [input, gradient] of gradients) {
    // two inputs may have one gradient
    const own = graph.node('Identity', [gradient]);
    graph.output(own, `${input}.gradient`, 'float32', one.declared?.[input] ?? one.inputs[input] ?? []);
  }
  return Session.create(graph.build(), { threadCount: 1 });
}

/** Throws where the gradient of an input is not the slope of the loss. */
export async function checkGradients(one: DifferenceCase): Promise<void> {
  const next = seededNumbers(one.seed);
  const forward = await forwardSession(one);
  const backward = await backwardSession(one);
  const inputs: Record<string, TensorValue<Float32Array>> = {};
  for (const [name, dims] of Object.entries(one.inputs)) {
    inputs[name] = floatTensor(draw(next, elementCount(dims), one.positive === true), dims);
  }
  const names = Object.keys(one.inputs);
  try {
    const outputNames = one.build(new GraphBuilder('count'), inputNames(one)).map((_, index) => `output.${index}`);
    const first = await forward.run(inputs, outputNames);
    const weights = outputNames.map((name) => draw(next, first.floats(name).length, false));
    const seeds = weights.map((data, index) => [`seed.${index}`, floatTensor(data, [data.length])] as const);
    const gradients = await backward.run({ ...inputs, ...Object.fromEntries(seeds) }, names.map(gradientOf));
    const loss = async (): Promise<number> => {
      const made = await forward.run(inputs, outputNames);
      return outputNames.reduce((sum, name, index) => sum + dot(made.floats(name), weights[index] as Float32Array), 0);
    };
    for (const [name, { data }] of Object.entries(inputs)) {
      const own = gradients.floats(gradientOf(name));
      assert.equal(own.length, data.length, `${one.name}, seed ${one.seed}: ${name}`);
      const slopes = await slopesOf(loss, data);
      const { distance, size } = distanceOf(own, slopes);
      const rounding = 1e-5 * Math.sqrt(slopes.length);
      const message = `${one.name}, seed ${one.seed}: the gradient of ${name} differs by ${distance} of ${size}`;
      assert.ok(distance <= TOLERANCE * size + rounding, message);
    }
  } finally {
    await forward.dispose();
    await backward.dispose();
  }
}

function gradientOf(input: string): string {
  return `${input}.gradient`;
}

function inputNames({ inputs }: DifferenceCase): Readonly<Record<string, Value>> {
  return Object.fromEntries(Object.keys(inputs).map((name) => [name, name as Value]));
}

function dot(one: Float32Array, other: Float32Array): number {
  return one.reduce((sum, value, index) => sum + value * (other[index] as number), 0);
}

/** The slope of the loss by each number of `data`. */
export async function slopesOf(
  loss: () => Promise<number>,
  data: Float32Array,
  step = 0.01,
): Promise<readonly number[]> {
  const slopes: number[] = [];
  for (const [place, at] of data.entries()) {
    const lossAt = (x: number): Promise<number> => {
      data[place] = x;
      return loss();
    };
    slopes.push(await slope(lossAt, at, step));
    data[place] = at;
  }
  return slopes;
}
