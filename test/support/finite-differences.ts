/** Holds gradients that a graph computes against differences of its outputs, element by element. */
import assert from 'node:assert/strict';
import { addGradients } from '../../src/runtime/graph/gradient.ts';
import { GraphBuilder, type Value } from '../../src/runtime/graph/graph-builder.ts';
import type { Dimension } from '../../src/runtime/graph/model-proto.ts';
import type { NodeRange } from '../../src/runtime/graph/recomputation.ts';
import { type Feeds, Session } from '../../src/runtime/session.ts';
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
  readonly recomputed?: (graph: GraphBuilder) => readonly NodeRange[];
  /** Returns values whose weighted sums are the loss. */
  readonly build: (graph: GraphBuilder, inputs: Readonly<Record<string, Value>>) => readonly Value[];
  readonly constants?: Readonly<Record<string, TensorValue>>;
}

/** Numbers from LEAST_SIZE to 1 with either sign. */
function draw(next: () => number, length: number, positive: boolean): Float32Array {
  return Float32Array.from({ length }, () => {
    const size = LEAST_SIZE + (1 - LEAST_SIZE) * next();
    return positive || next() < 0.5 ? size : -size;
  });
}

/** Central differences of the fourth order: exact but for rounding at this step. */
async function slope(loss: (x: number) => Promise<number>, at: number): Promise<number> {
  const step = 0.02;
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

/** Throws where the gradient of an input is not the slope of the loss. */
export async function checkGradients(one: DifferenceCase): Promise<void> {
  const next = seededNumbers(one.seed);
  const graph = new GraphBuilder(one.name);
  const values: Record<string, Value> = {};
  for (const [name, dims] of Object.entries(one.inputs)) {
    values[name] = graph.input(name, 'float32', one.declared?.[name] ?? dims);
  }
  const outputs = one.build(graph, values);
  const seeds = new Map<Value, Value>();
  for (const [index, output] of outputs.entries()) {
    graph.output(output, `output.${index}`, 'float32', []);
    seeds.set(output, graph.input(`seed.${index}`, 'float32', [`seed.${index}`]));
  }
  const shaped = new Map(
    [...seeds].map(([output, seed]) => [output, graph.node('Reshape', [seed, graph.node('Shape', [output])])]),
  );
  const recomputed = one.recomputed?.(graph) ?? [];
  const gradients = addGradients(graph, { seeds: shaped, wanted: Object.values(values), recomputed });
  for (const [value, gradient] of gradients) graph.output(gradient, `${value}.gradient`, 'float32', []);
  const session = await Session.create(graph.build(), { threadCount: 1 });
  try {
    const feeds: Record<string, TensorValue<Float32Array>> = {};
    for (const [name, dims] of Object.entries(one.inputs)) {
      feeds[name] = floatTensor(draw(next, elementCount(dims), one.positive === true), dims);
    }
    await compare(session, one, feeds, outputs.length, next);
  } finally {
    await session.dispose();
  }
}

async function compare(
  session: Session,
  one: DifferenceCase,
  inputs: Readonly<Record<string, TensorValue<Float32Array>>>,
  outputCount: number,
  next: () => number,
): Promise<void> {
  const names = Array.from({ length: outputCount }, (_, index) => `output.${index}`);
  const unseeded: Record<string, TensorValue> = { ...one.constants, ...inputs };
  for (const index of names.keys()) unseeded[`seed.${index}`] = floatTensor(Float32Array.of(0), [1]);
  const lengths = await outputLengths(session, unseeded, names);
  const seeds = lengths.map((length) => draw(next, length, false));
  const feeds: Feeds = {
    ...unseeded,
    ...Object.fromEntries(seeds.map((data, index) => [`seed.${index}`, floatTensor(data, [data.length])])),
  };
  const loss = async (): Promise<number> => {
    const made = await session.run(feeds, names);
    let sum = 0;
    for (const [index, name] of names.entries()) {
      const weights = seeds[index] as Float32Array;
      for (const [place, value] of made.floats(name).entries()) sum += value * (weights[place] as number);
    }
    return sum;
  };
  const gradientNames = Object.keys(inputs).map((name) => `${name}.gradient`);
  const gradients = await session.run(feeds, gradientNames);
  for (const [name, { data }] of Object.entries(inputs)) {
    const slopes: number[] = [];
    for (const [place, at] of data.entries()) {
      slopes.push(
        await slope((x) => {
          data[place] = x;
          return loss();
        }, at),
      );
      data[place] = at;
    }
    const { distance, size } = distanceOf(gradients.floats(`${name}.gradient`), slopes);
    assert.equal(gradients.floats(`${name}.gradient`).length, slopes.length, `${one.name}, seed ${one.seed}: ${name}`);
    const rounding = 1e-5 * Math.sqrt(slopes.length);
    assert.ok(
      distance <= TOLERANCE * size + rounding,
      `${one.name}, seed ${one.seed}: the gradient of ${name} differs by ${distance} of ${size}`,
    );
  }
}

async function outputLengths(session: Session, feeds: Feeds, names: readonly string[]): Promise<readonly number[]> {
  const made = await session.run(feeds, names);
  return names.map((name) => made.floats(name).length);
}
