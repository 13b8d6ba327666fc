/** Products in float16: weights and rows rounded to 11 bits, sums given back in float32. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GraphBuilder } from '../../../src/runtime/graph/graph-builder.ts';
import { createFloatingProducts } from '../../../src/runtime/graph/matrix-products.ts';
import { Session } from '../../../src/runtime/session.ts';
import { floatTensor, longTensor } from '../../../src/runtime/tensor.ts';

/** [2, 2], the identity but for 1 + 2⁻¹¹, a tie that goes to 1. */
const matrix = Float32Array.of(1 + 2 ** -11, 0, 0, 1);

async function multiply(staysFloat32: boolean) {
  const graph = new GraphBuilder('half');
  const products = createFloatingProducts(graph, 'float16', () => staysFloat32);
  const x = graph.input('x', 'float32', ['rows', 2]);
  graph.output(products.product(x, 'matrix', matrix, 2), 'y', 'float32', ['rows', 2]);
  const places = graph.input('places', 'int64', ['count']);
  graph.output(products.rows(places, 'matrix', matrix, 2), 'rows', 'float32', ['count', 2]);
  const session = await Session.create(graph.build(), { threadCount: 1 });
  const feeds = { x: floatTensor(Float32Array.of(1, 1 + 2 ** -10 + 2 ** -12), [1, 2]), places: longTensor([0]) };
  const outputs = await session.run(feeds, ['y', 'rows']);
  await session.dispose();
  return { y: [...outputs.floats('y')], rows: [...outputs.floats('rows')] };
}

test('weights and rows are rounded, and so are rows that are looked up', async () => {
  assert.deepEqual(await multiply(false), { y: [1, 1 + 2 ** -10], rows: [1, 0] });
});

test('a matrix that stays in float32 is not', async () => {
  const { y } = await multiply(true);
  assert.deepEqual(y, [1 + 2 ** -11, 1 + 2 ** -10 + 2 ** -12]);
});

test('a weight beyond the range is refused by its name', () => {
  const graph = new GraphBuilder('half');
  const x = graph.input('x', 'float32', ['rows', 2]);
  const products = createFloatingProducts(graph, 'float16');
  assert.throws(() => products.product(x, 'decoder.layer', Float32Array.of(1, 2, 3, -65_520), 2), {
    code: 'INVALID_MODEL',
    message: /within ±65504.*decoder\.layer has -65520.*FP32/,
  });
});
