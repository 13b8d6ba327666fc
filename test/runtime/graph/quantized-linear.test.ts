/** Products in 8 bits are those of integers, row by row, and near those of float32. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GraphBuilder } from '../../../src/runtime/graph/graph-builder.ts';
import { createProducts } from '../../../src/runtime/graph/matrix-products.ts';
import { type Int8Format, ROW_ZEROS, rowZeros } from '../../../src/runtime/graph/quantized-linear.ts';
import { finestExactRange } from '../../../src/runtime/quantization/exact-range.ts';
import { describeRange, quantizeRows, WEIGHT_RANGES } from '../../../src/runtime/quantization/quantize-rows.ts';
import { Session } from '../../../src/runtime/session.ts';
import { floatTensor } from '../../../src/runtime/tensor.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const [IN_SIZE, OUT_SIZE] = [96, 70];
const ROWS = 33;
const next = seededNumbers(20261128);
const matrix = Float32Array.from({ length: OUT_SIZE * IN_SIZE }, () => next() - 0.5);
/** Rows of very different sizes, one of zeros, one with a number that stands out. */
const rows = Float32Array.from({ length: ROWS * IN_SIZE }, (_, index) => {
  const row = Math.floor(index / IN_SIZE);
  const value = (next() - 0.5) * 10 ** ((row % 7) - 3);
  if (row === 5) return 0;
  return row === 6 && index % IN_SIZE === 11 ? 50 : value;
});

async function open(format: Int8Format, isBatched: boolean): Promise<Session> {
  const graph = new GraphBuilder('products');
  const lead = isBatched ? [1, 'rows'] : ['rows'];
  const x = graph.input('x', 'float32', [...lead, IN_SIZE]);
  const products = createProducts(graph, format, isBatched);
  const first = products.product(x, 'first_matrix', matrix, IN_SIZE);
  // the same rows for another matrix
  const second = products.product(
    x,
    'second_matrix',
    matrix.map((weight) => -weight),
    IN_SIZE,
  );
  graph.output(first, 'first', 'float32', [...lead, OUT_SIZE]);
  graph.output(second, 'second', 'float32', [...lead, OUT_SIZE]);
  return Session.create(graph.build(), { threadCount: 2 });
}

async function run(session: Session, first: number, count: number, isBatched: boolean): Promise<Float32Array> {
  const data = rows.slice(first * IN_SIZE, (first + count) * IN_SIZE);
  const x = floatTensor(data, isBatched ? [1, count, IN_SIZE] : [count, IN_SIZE]);
  const outputs = await session.run({ x, [ROW_ZEROS]: rowZeros(count) }, ['first', 'second']);
  const y = outputs.floats('first');
  assert.deepEqual(
    outputs.floats('second').map((value) => 0 - value),
    y.map((value) => value + 0),
  );
  return y;
}

/** What the graph is to compute, in integers. */
function expectedRow(row: number, { weights, scales }: ReturnType<typeof quantizeRows>): number[] {
  const own = rows.subarray(row * IN_SIZE, (row + 1) * IN_SIZE);
  const largest = own.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const scale = Math.fround(largest * Math.fround(1 / 127));
  if (scale === 0) return new Array<number>(OUT_SIZE).fill(0);
  return Array.from({ length: OUT_SIZE }, (_, out) => {
    let sum = 0;
    for (const [index, value] of own.entries()) {
      const quotient = Math.fround(value / Math.fround(scale));
      // half to even, as onnxruntime rounds
      const floor = Math.floor(quotient);
      const rounded = quotient - floor === 0.5 ? floor + (floor % 2 === 0 ? 0 : 1) : Math.round(quotient);
      sum += rounded * (weights[index * OUT_SIZE + out] as number);
    }
    return sum * (scales[out] as number) * scale;
  });
}

for (const isBatched of [false, true]) {
  const shape = isBatched ? 'one source' : 'rows';

  test(`each row is a product of integers, and the same alone and with others: ${shape}`, async (t) => {
    const range = await finestExactRange(2);
    const quantized = quantizeRows(matrix, IN_SIZE, range);
    const session = await open({ range, rowBytes: 1 }, isBatched);
    t.after(() => session.dispose());
    const together = await assertAlike(session, isBatched);
    for (let row = 0; row < ROWS; row++) {
      for (const [out, expected] of expectedRow(row, quantized).entries()) {
        const tolerance = 1e-5 * Math.abs(expected) + 1e-9;
        const found = together[row * OUT_SIZE + out] as number;
        assert.ok(Math.abs(found - expected) <= tolerance, `row ${row}, ${out}`);
      }
    }
  });

  test(`a second byte leaves rows half of 1/254 of the first one's step from themselves: ${shape}`, async (t) => {
    const range = await finestExactRange(2);
    const { weights, scales } = quantizeRows(matrix, IN_SIZE, range);
    const session = await open({ range, rowBytes: 2 }, isBatched);
    t.after(() => session.dispose());
    const together = await assertAlike(session, isBatched);
    for (let row = 0; row < ROWS; row++) {
      const own = rows.subarray(row * IN_SIZE, (row + 1) * IN_SIZE);
      const half = own.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127 / 254 / 2;
      for (let out = 0; out < OUT_SIZE; out++) {
        let [sum, weightSum, size] = [0, 0, 0];
        for (const [index, value] of own.entries()) {
          const weight = (weights[index * OUT_SIZE + out] as number) * (scales[out] as number);
          sum += value * weight;
          weightSum += Math.abs(weight);
          size += Math.abs(value * weight);
        }
        const found = together[row * OUT_SIZE + out] as number;
        // float32's own rounding beside it
        assert.ok(Math.abs(found - sum) <= half * weightSum + 1e-6 * size, `row ${row}, ${out}`);
      }
    }
  });
}

for (const rowBytes of [1, 2] as const) {
  // also of a width at which rows begin anywhere among the vectors of a kernel
  for (const width of [IN_SIZE, 18]) {
    test(`a row with a number that is none has none in its product, wherever it stands: ${width} wide, ${rowBytes} bytes`, async (t) => {
      const graph = new GraphBuilder('broken-rows');
      const x = graph.input('x', 'float32', ['rows', width]);
      const products = createProducts(graph, { range: WEIGHT_RANGES[2], rowBytes });
      const product = products.product(x, 'matrix', matrix.slice(0, OUT_SIZE * width), width);
      graph.output(product, 'y', 'float32', ['rows', OUT_SIZE]);
      const session = await Session.create(graph.build(), { threadCount: 2 });
      t.after(() => session.dispose());
      for (let column = 0; column < width; column++) {
        const count = 1 + (column % 5);
        const broken = column % count;
        const data = Float32Array.from({ length: count * width }, (_, place) => Math.cos(place));
        data[broken * width + column] = column % 3 === 0 ? Number.POSITIVE_INFINITY : Number.NaN;
        const feeds = { x: floatTensor(data, [count, width]), [ROW_ZEROS]: rowZeros(count) };
        const y = (await session.run(feeds, ['y'])).floats('y');
        for (let row = 0; row < count; row++) {
          const own = y.subarray(row * OUT_SIZE, (row + 1) * OUT_SIZE);
          const isWhole = own.every(Number.isFinite);
          const isBroken = own.every((value) => !Number.isFinite(value));
          assert.deepEqual([isWhole, isBroken], [row !== broken, row === broken], `column ${column}, row ${row}`);
        }
      }
    });
  }
}

/** Returns all rows' products, which are those of each row alone and of any part. */
async function assertAlike(session: Session, isBatched: boolean): Promise<Float32Array> {
  const together = await run(session, 0, ROWS, isBatched);
  for (let row = 0; row < ROWS; row++) {
    const own = together.subarray(row * OUT_SIZE, (row + 1) * OUT_SIZE);
    assert.deepEqual(await run(session, row, 1, isBatched), own, `row ${row}`);
  }
  assert.deepEqual(await run(session, 7, 9, isBatched), together.slice(7 * OUT_SIZE, 16 * OUT_SIZE));
  return together;
}

test('the range of weights is one of those there are, and its sums are exact on this processor', async () => {
  const range = await finestExactRange(1);
  assert.ok(WEIGHT_RANGES.includes(range));
  assert.deepEqual(await finestExactRange(2), range);
  assert.equal(new Set(WEIGHT_RANGES.map(describeRange)).size, WEIGHT_RANGES.length);
});

test('what an 8-bit matrix stands for is within half a unit of its own', () => {
  for (const range of WEIGHT_RANGES) {
    const { weights, scales } = quantizeRows(matrix, IN_SIZE, range);
    for (const [index, weight] of matrix.entries()) {
      const [row, column] = [Math.floor(index / IN_SIZE), index % IN_SIZE];
      const scale = scales[row] as number;
      const back = (weights[column * OUT_SIZE + row] as number) * scale;
      assert.ok(Math.abs(weight - back) <= (scale / 2) * (1 + 1e-5));
    }
  }
});
