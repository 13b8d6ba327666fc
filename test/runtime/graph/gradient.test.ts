/** The gradient of every operator is the slope of its output, on random small graphs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addGradients, differentiableOperators } from '../../../src/runtime/graph/gradient.ts';
import { GraphBuilder, type Value } from '../../../src/runtime/graph/graph-builder.ts';
import { floatTensor, intTensor, longTensor } from '../../../src/runtime/tensor.ts';
import { checkGradients, type DifferenceCase } from '../../support/finite-differences.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const SEEDS = [1, 2, 3, 4, 5, 6];

type Attributes = Parameters<GraphBuilder['node']>[2];
type Chooser = (most: number) => number;

/** Operators that a test below differentiates. */
const tested = new Set<string>();

function chooser(seed: number): Chooser {
  const next = seededNumbers(seed * 7919);
  return (most) => 1 + Math.floor(next() * most);
}

/** Dimensions of `dims` that broadcast to it: some are 1, some of the first are missing. */
function narrower(dims: readonly number[], choose: Chooser): readonly number[] {
  return dims.map((size) => (choose(3) === 1 ? 1 : size)).slice(choose(2) === 1 ? choose(dims.length) - 1 : 0);
}

function law(opType: string, make: (seed: number, choose: Chooser) => Omit<DifferenceCase, 'name' | 'seed'>): void {
  tested.add(opType);
  test(`${opType}: the gradient is the slope`, async () => {
    for (const seed of SEEDS) await checkGradients({ name: opType, seed, ...make(seed, chooser(seed)) });
  });
}

for (const opType of ['Add', 'Sub', 'Mul', 'Div']) {
  law(opType, (seed, choose) => {
    const dims = [choose(3), choose(4), choose(3)];
    const [a, b] = seed % 2 === 0 ? [dims, narrower(dims, choose)] : [narrower(dims, choose), dims];
    return {
      inputs: { a, b },
      positive: opType === 'Div',
      build: (graph, { a, b }) => [graph.node(opType, [a, b] as Value[])],
    };
  });
}

law('Where', (_seed, choose) => {
  const dims = [choose(3), choose(4)];
  return {
    inputs: { a: dims, b: narrower(dims, choose), c: dims },
    build: (graph, { a, b, c }) => [
      graph.node('Where', [
        graph.node('Greater', [c, graph.weight('zero', floatTensor(new Float32Array(1), []))] as Value[]),
        a,
        b,
      ] as Value[]),
      graph.node('Neg', [c] as Value[]),
    ],
  };
});

function pointwise(opType: string, attributes: Attributes = {}, positive = false): void {
  law(opType, (_seed, choose) => ({
    inputs: { x: [choose(3), choose(5)] },
    positive,
    build: (graph, { x }) => [graph.node(opType, [x] as Value[], attributes)],
  }));
}

for (const opType of ['Neg', 'Relu', 'Tanh', 'Sigmoid', 'Exp', 'FastGelu']) pointwise(opType);
pointwise('Gelu', { approximate: 'none' });
pointwise('QuickGelu', { alpha: { float: 1 } });
pointwise('Log', {}, true);
pointwise('Sqrt', {}, true);
pointwise('Softmax', { axis: -1 });
pointwise('LogSoftmax', { axis: -1 });

for (const opType of ['ReduceSum', 'ReduceMean']) {
  law(opType, (seed, choose) => ({
    inputs: { x: [choose(3), choose(4), choose(3)] },
    build: (graph, { x }) => {
      const axes = [[-1], [0], [0, 2], [1]][seed % 4] as number[];
      return [graph.node(opType, [x as Value, graph.integers(...axes)], { keepdims: seed % 2 })];
    },
  }));
}

law('MatMul', (seed, choose) => {
  const [m, k, n] = [choose(4), choose(4), choose(4)];
  const batch = [choose(2), choose(3)];
  const a = [...(seed % 3 === 0 ? narrower(batch, choose) : batch), m, k];
  const b = [...(seed % 3 === 1 ? [] : batch), k, n];
  return { inputs: { a, b }, build: (graph, { a, b }) => [graph.node('MatMul', [a, b] as Value[])] };
});

law('FusedMatMul', (seed, choose) => {
  const [m, k, n] = [choose(4), choose(4), choose(4)];
  const [transA, transB] = [seed % 2, Math.floor(seed / 2) % 2];
  const batch = [choose(3)];
  const a = [...batch, ...(transA === 1 ? [k, m] : [m, k])];
  const b = [...(seed < 4 ? [] : batch), ...(transB === 1 ? [n, k] : [k, n])];
  const attributes = { transA, transB, alpha: { float: 0.7 } };
  return { inputs: { a, b }, build: (graph, { a, b }) => [graph.node('FusedMatMul', [a, b] as Value[], attributes)] };
});

const norm = { epsilon: { float: 1e-6 } };

/** Attributes of norms that stand alone, and how many tensors they have beside their rows. */
const norms = [
  { opType: 'SimplifiedLayerNormalization', joined: 'SkipSimplifiedLayerNormalization', tensors: ['weight'] },
  { opType: 'LayerNormalization', joined: 'SkipLayerNormalization', tensors: ['weight', 'bias'] },
];

for (const { opType, joined, tensors } of norms) {
  law(opType, (_seed, choose) => {
    const size = 1 + choose(5);
    return {
      inputs: { x: [choose(2), choose(3), size], ...Object.fromEntries(tensors.map((name) => [name, [size]])) },
      build: (graph, inputs) => [graph.node(opType, Object.values(inputs), { ...norm, axis: -1, stash_type: 1 })],
    };
  });

  law(joined, (seed, choose) => {
    const size = 1 + choose(5);
    const dims = [choose(2), choose(3), size];
    return {
      inputs: { x: dims, residual: dims, ...Object.fromEntries(tensors.map((name) => [name, [size]])) },
      build: (graph, inputs) => {
        const [normalized, , , sum] = graph.nodeWithOutputs(joined, Object.values(inputs), norm, 4);
        return ([[normalized, sum], [normalized], [sum]][seed % 3] ?? []) as Value[];
      },
    };
  });
}

law('RotaryEmbedding', (seed, choose) => {
  const [batch, length, heads, pairs] = [choose(2), choose(3), choose(3), choose(3)];
  const next = seededNumbers(seed);
  const angles = Float32Array.from({ length: 4 * pairs }, () => 6 * next());
  const positions = Array.from({ length: batch * length }, () => choose(4) - 1);
  return {
    inputs: { x: [batch, length, heads * 2 * pairs] },
    build: (graph, { x }) => {
      const inputs = [
        graph.weight('positions', longTensor(positions, [batch, length])),
        graph.weight('cosines', floatTensor(angles.map(Math.cos), [4, pairs])),
        graph.weight('sines', floatTensor(angles.map(Math.sin), [4, pairs])),
      ];
      return [graph.node('RotaryEmbedding', [x as Value, ...inputs], { num_heads: heads })];
    },
  };
});

law('Reshape', (_seed, choose) => {
  const [a, b] = [choose(3), choose(4)];
  return {
    inputs: { x: [a, b, 2] },
    build: (graph, { x }) => [graph.node('Reshape', [x as Value, graph.integers(0, b * 2)])],
  };
});

law('Unsqueeze', (_seed, choose) => ({
  inputs: { x: [choose(3), choose(4)] },
  build: (graph, { x }) => [graph.node('Unsqueeze', [x as Value, graph.integers(0, 2)])],
}));

law('Transpose', (seed, choose) => {
  const perm = [
    [2, 0, 1],
    [1, 2, 0],
    [0, 2, 1],
  ][seed % 3] as number[];
  return {
    inputs: { x: [choose(3), choose(4), choose(3)] },
    build: (graph, { x }) => [graph.node('Transpose', [x] as Value[], { perm })],
  };
});

law('Concat', (seed, choose) => {
  const axis = seed % 2;
  const dims = [choose(3), choose(3)];
  return {
    inputs: { a: dims.with(axis, choose(3)), b: dims.with(axis, choose(3)) },
    declared: { a: ['rows', 'columns'], b: ['others', 'columns'] },
    build: (graph, { a, b }) => [graph.node('Concat', [a, b] as Value[], { axis })],
  };
});

law('Split', (seed, choose) => {
  const sizes = [choose(3), choose(3)] as [number, number];
  return {
    inputs: { x: [2, sizes[0] + sizes[1]] },
    build: (graph, { x }) => {
      const parts = graph.nodeWithOutputs('Split', [x as Value, graph.integers(...sizes)], { axis: -1 }, 2);
      // a part that nothing reads has no gradient of its own
      return seed % 2 === 0 ? parts : parts.slice(1);
    },
  };
});

law('Gather', (_seed, choose) => ({
  inputs: { table: [4, choose(3)] },
  build: (graph, { table }) => {
    const index = graph.weight('index', intTensor(Int32Array.of(0, 3, 3, 1, 0, 3), [2, 3]));
    return [graph.node('Gather', [table as Value, index], { axis: 0 })];
  },
}));

law('GatherElements', (_seed, choose) => ({
  inputs: { x: [3, 1 + choose(3)] },
  build: (graph, { x }) => {
    const index = graph.weight('index', intTensor(Int32Array.of(0, 1, 1, 1, 1, 0), [3, 2]));
    return [graph.node('GatherElements', [x as Value, index], { axis: 1 })];
  },
}));

test('every operator that has a rule is tested', () => {
  assert.deepEqual([...tested].sort(), [...differentiableOperators].sort());
});

/** A block of attention's kind: x is read several times, sizes are known when it runs. */
function twoBlocks(graph: GraphBuilder, x: Value, weight: Value): Value {
  let stream = x;
  for (let block = 0; block < 2; block++) {
    const scores = graph.node('FusedMatMul', [stream, graph.node('MatMul', [stream, weight])], { transB: 1 });
    const mixed = graph.node('MatMul', [graph.node('Softmax', [scores], { axis: -1 }), stream]);
    stream = graph.node('Add', [stream, graph.node('Tanh', [mixed])]);
  }
  return stream;
}

test('values that are used several times get the sum of their gradients', async () => {
  await checkGradients({
    name: 'two blocks',
    seed: 1,
    inputs: { x: [2, 3, 4], weight: [4, 4] },
    declared: { x: ['batch', 'length', 4] },
    build: (graph, { x, weight }) => [twoBlocks(graph, x as Value, weight as Value)],
  });
});

test('heads of queries that share keys add up their gradients', async () => {
  const [batch, length, shared, size] = [2, 3, 2, 4];
  await checkGradients({
    name: 'grouped heads',
    seed: 3,
    inputs: { queries: [batch, length, 3 * shared * size], keys: [batch, length, 3 * size] },
    declared: { queries: ['batch', 'length', 3 * shared * size], keys: ['batch', 'length', 3 * size] },
    build: (graph, { queries, keys }) => {
      const split = (x: Value, heads: number): Value =>
        graph.node('Transpose', [graph.node('Reshape', [x, graph.integers(0, 0, 3, heads, size)])], {
          perm: [0, 2, 3, 1, 4],
        });
      const attributes = { transB: 1, alpha: { float: 0.5 } };
      const products = graph.node(
        'FusedMatMul',
        [split(queries as Value, shared), split(keys as Value, 1)],
        attributes,
      );
      return [graph.node('MatMul', [products, split(keys as Value, 1)])];
    },
  });
});

test('what is computed again gives the same gradients', async () => {
  await checkGradients({
    name: 'two blocks again',
    seed: 2,
    inputs: { x: [2, 3, 4], weight: [4, 4] },
    declared: { x: ['batch', 'length', 4] },
    recomputed: [
      { from: 0, to: 6 },
      { from: 6, to: 12 },
    ],
    build: (graph, { x, weight }) => [twoBlocks(graph, x as Value, weight as Value)],
  });
});

test('nothing is computed for what is not asked for', () => {
  const graph = new GraphBuilder('frozen');
  const x = graph.input('x', 'float32', ['rows', 4]);
  const frozen = graph.input('frozen', 'float32', [4, 4]);
  const trained = graph.input('trained', 'float32', [4, 4]);
  const y = graph.node('MatMul', [graph.node('Tanh', [graph.node('MatMul', [x, frozen])]), trained]);
  const seed = graph.input('seed', 'float32', ['rows', 4]);
  const before = graph.recorded.nodes.length;
  const gradients = addGradients(graph, { seeds: new Map([[y, seed]]), wanted: [trained] });
  assert.deepEqual([...gradients.keys()], [trained]);
  // one product, and nothing that leads back to x or the frozen matrix
  assert.deepEqual(
    graph.recorded.nodes.slice(before).map(({ opType }) => opType),
    ['FusedMatMul'],
  );
});

test('an operator without a rule is named', () => {
  const graph = new GraphBuilder('unknown');
  const x = graph.input('x', 'float32', [4]);
  const y = graph.node('Sin', [x]);
  assert.throws(() => addGradients(graph, { seeds: new Map([[y, x]]), wanted: [x] }), /Sin .* has a rule/);
});
