/** Attention to a source in 8 bits is near that in float32, and does not depend on who shares the batch. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { attend, splitHeads } from '../../../src/runtime/graph/attention.ts';
import { quantizedSourceCache } from '../../../src/runtime/graph/cached-tensors.ts';
import { GraphBuilder, type Value } from '../../../src/runtime/graph/graph-builder.ts';
import { attendQuantized, quantizedSource, quantizeSource } from '../../../src/runtime/graph/quantized-attention.ts';
import { Session } from '../../../src/runtime/session.ts';
import { floatTensor, type TensorValue } from '../../../src/runtime/tensor.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const HEADS = { headCount: 3, headSize: 8 };
const WIDTH = HEADS.headCount * HEADS.headSize;
/** Of a source, and of the cache that it lies in. */
const [LENGTH, ROOM] = [32, 48];
const SOURCES = 5;
const next = seededNumbers(20261129);
const numbers = (length: number): Float32Array => Float32Array.from({ length }, () => next() - 0.5);

/** What one source leaves in the cache, each tensor in a room of ROOM positions. */
type Kept = readonly TensorValue[];

async function open(t: TestContext, graph: GraphBuilder): Promise<Session> {
  const session = await Session.create(graph.build(), { threadCount: 2 });
  t.after(() => session.dispose());
  return session;
}

function openSource(t: TestContext): Promise<Session> {
  const graph = new GraphBuilder('source');
  const [keys, values] = ['keys', 'values'].map((name) => graph.input(name, 'float32', [1, LENGTH, WIDTH]));
  const present = graph.input('present', 'float32', [1, LENGTH, 1]);
  const source = quantizeSource(graph, { keys: keys as Value, values: values as Value }, present, HEADS);
  const parts = [source.keys, source.keyScales, source.values, source.valueScales];
  for (const [part, { name, type, dims }] of quantizedSourceCache(HEADS).entries()) {
    graph.output(parts[part] as Value, name, type, [1, ...dims.map((size) => (size === 'length' ? LENGTH : size))]);
  }
  return open(t, graph);
}

function openAttention(t: TestContext): Promise<Session> {
  const graph = new GraphBuilder('attention');
  const queries = graph.input('queries', 'float32', ['b', HEADS.headCount, 'q', HEADS.headSize]);
  const mask = graph.input('mask', 'float32', ['b', 1, 1, ROOM]);
  const source = quantizedSourceCache(HEADS).map(({ name, type, dims }) =>
    graph.input(name, type, ['b', ...dims.map((size) => (size === 'length' ? ROOM : size))]),
  );
  const attended = attendQuantized(graph, queries, quantizedSource(source), mask);
  graph.output(attended, 'attended', 'float32', ['b', HEADS.headCount, 'q', HEADS.headSize]);
  return open(t, graph);
}

function openFloat(t: TestContext): Promise<Session> {
  const graph = new GraphBuilder('float-attention');
  const queries = graph.input('queries', 'float32', ['b', HEADS.headCount, 'q', HEADS.headSize]);
  const mask = graph.input('mask', 'float32', ['b', 1, 1, LENGTH]);
  const [keys, values] = ['keys', 'values'].map((name) =>
    splitHeads(graph, graph.input(name, 'float32', [1, LENGTH, WIDTH]), HEADS),
  );
  const attended = attend(graph, queries, keys as Value, values as Value, mask);
  graph.output(attended, 'attended', 'float32', ['b', HEADS.headCount, 'q', HEADS.headSize]);
  return open(t, graph);
}

/** Widens tensors to ROOM positions, behind which there is what another source left. */
function inRoom(part: number, data: Float32Array | Uint8Array): TensorValue {
  const dims = quantizedSourceCache(HEADS)[part]?.dims ?? [];
  const axis = dims.indexOf('length');
  const sizes = dims.map((size) => (size === 'length' ? ROOM : size));
  if (axis < 0) return { data, dims: [1, ...sizes] };
  const width = axis === 2 ? 1 : HEADS.headSize;
  const blocks = data.length / (LENGTH * width);
  const wide = new Uint8Array(blocks * ROOM * width).fill(77);
  for (let block = 0; block < blocks; block++) {
    wide.set(data.subarray(block * LENGTH * width, (block + 1) * LENGTH * width), block * ROOM * width);
  }
  return { data: wide, dims: [1, ...sizes] };
}

function joined(tensors: readonly TensorValue[]): TensorValue {
  const [{ data: first, dims }] = tensors as readonly [TensorValue];
  const length = tensors.reduce((sum, { data }) => sum + data.length, 0);
  const data = first instanceof Float32Array ? new Float32Array(length) : new Uint8Array(length);
  for (const [index, tensor] of tensors.entries()) data.set(tensor.data as never, index * first.length);
  return { data, dims: [tensors.length, ...dims.slice(1)] };
}

/** Of a source whose last `padding` positions pad it. */
function presence(padding = 0): TensorValue {
  return floatTensor(new Float32Array(LENGTH).fill(1, 0, LENGTH - padding), [1, LENGTH, 1]);
}

function masks(count: number, room: number): TensorValue {
  const mask = new Float32Array(count * room);
  for (let row = 0; row < count; row++) mask.fill(Number.NEGATIVE_INFINITY, row * room + LENGTH, (row + 1) * room);
  return floatTensor(mask, [count, 1, 1, room]);
}

for (const queryCount of [1, 4]) {
  test(`near float32, and each source's own: ${queryCount} queries`, async (t) => {
    const [source, attention, float] = [await openSource(t), await openAttention(t), await openFloat(t)];
    const names = quantizedSourceCache(HEADS).map(({ name }) => name);
    const size = queryCount * WIDTH;
    const dims = [HEADS.headCount, queryCount, HEADS.headSize];
    const kept: Kept[] = [];
    const queries: Float32Array[] = [];
    const expected: Float32Array[] = [];
    /** Of each source's values, by column. */
    const columnLargest: number[][] = [];
    for (let index = 0; index < SOURCES; index++) {
      // some sources and single columns are far larger than others; one has a column of zeros
      const scale = 10 ** (index - 2);
      const rows = [numbers(LENGTH * WIDTH), numbers(LENGTH * WIDTH)].map((values) =>
        values.map((value, place) => {
          if (index === 1 && place % WIDTH === 3) return 0;
          return value * scale * (place % WIDTH === 5 ? 40 : 1);
        }),
      );
      const [keys, values] = rows.map((data) => floatTensor(data, [1, LENGTH, WIDTH])) as [TensorValue, TensorValue];
      columnLargest.push(
        Array.from({ length: WIDTH }, (_, column) =>
          (rows[1] as Float32Array).reduce(
            (most, value, place) => (place % WIDTH === column ? Math.max(most, Math.abs(value)) : most),
            0,
          ),
        ),
      );
      const outputs = await source.run({ keys, values, present: presence() }, names);
      kept.push(names.map((name, part) => inRoom(part, outputs.cached(name))));
      const asked = numbers(size).map((value, place) => (value * 4) / scale / (place % HEADS.headSize === 5 ? 40 : 1));
      queries.push(asked);
      const feeds = { keys, values, queries: floatTensor(asked, [1, ...dims]), mask: masks(1, LENGTH) };
      expected.push((await float.run(feeds, ['attended'])).floats('attended'));
    }
    const run = async (of: readonly number[]): Promise<Float32Array> => {
      const feeds: Record<string, TensorValue> = { mask: masks(of.length, ROOM) };
      feeds.queries = joined(of.map((index) => floatTensor(queries[index] as Float32Array, [1, ...dims])));
      for (const [part, name] of names.entries()) {
        feeds[name] = joined(of.map((index) => kept[index]?.[part] as TensorValue));
      }
      return (await attention.run(feeds, ['attended'])).floats('attended');
    };
    const together = await run([0, 1, 2, 3, 4]);
    for (let index = 0; index < SOURCES; index++) {
      const own = together.slice(index * size, (index + 1) * size);
      assert.deepEqual(await run([index]), own, `source ${index}`);
      for (const [place, value] of own.entries()) {
        const head = Math.floor(place / (queryCount * HEADS.headSize));
        const largest = columnLargest[index]?.[head * HEADS.headSize + (place % HEADS.headSize)] ?? 0;
        const difference = Math.abs(value - (expected[index]?.[place] as number));
        assert.ok(difference <= 0.03 * largest, `source ${index}, ${place}: ${difference} of ${largest}`);
      }
    }
    assert.deepEqual(
      await run([3, 1]),
      Float32Array.from([...together.slice(3 * size, 4 * size), ...together.slice(size, 2 * size)]),
    );
  });
}

test('what pads a source has no say in its scales, and a number that is none shows in them', async (t) => {
  const source = await openSource(t);
  const names = quantizedSourceCache(HEADS).map(({ name }) => name);
  const scalesOf = async (values: Float32Array, padding = 0): Promise<readonly Float32Array[]> => {
    const rows = floatTensor(values, [1, LENGTH, WIDTH]);
    const outputs = await source.run({ keys: rows, values: rows, present: presence(padding) }, names);
    return ['source_key_scales', 'source_value_scales'].map((name) => outputs.floats(name));
  };
  const values = numbers(LENGTH * WIDTH);
  const padded = values.map((value, place) => (place < (LENGTH - 5) * WIDTH ? value : value * 100));
  const zeroed = values.map((value, place) => (place < (LENGTH - 5) * WIDTH ? value : 0));
  assert.deepEqual(await scalesOf(padded, 5), await scalesOf(zeroed));
  for (let position = 0; position < LENGTH; position++) {
    const broken = values.slice();
    broken[position * WIDTH + 7] = Number.NaN;
    for (const scales of await scalesOf(broken)) {
      const found = [...scales.entries()].filter(([, scale]) => Number.isNaN(scale)).map(([column]) => column);
      assert.deepEqual(found, [7], `position ${position}`);
    }
  }
});

test('a query with a number that is none gets none, and the others what they get without it', async (t) => {
  const attention = await openAttention(t);
  const [count, size] = [2, HEADS.headSize];
  const feeds: Record<string, TensorValue> = { mask: masks(count, ROOM) };
  for (const { name, type, dims } of quantizedSourceCache(HEADS)) {
    const sizes = [count, ...dims.map((dim) => (dim === 'length' ? ROOM : dim))];
    const length = sizes.reduce((product, dim) => product * dim, 1);
    const bytes = Uint8Array.from({ length }, (_, place) => (place * 37) % 251);
    feeds[name] = { data: type === 'uint8' ? bytes : numbers(length), dims: sizes };
  }
  const run = async (queries: Float32Array): Promise<Float32Array> => {
    const dims = [count, HEADS.headCount, 1, size];
    return (await attention.run({ ...feeds, queries: floatTensor(queries, dims) }, ['attended'])).floats('attended');
  };
  const whole = numbers(count * WIDTH);
  const expected = await run(whole);
  for (let place = 0; place < whole.length; place++) {
    const broken = whole.slice();
    broken[place] = Number.NaN;
    const head = Math.floor(place / size);
    for (const [index, value] of (await run(broken)).entries()) {
      const isOwn = Math.floor(index / size) === head;
      assert.ok(isOwn ? Number.isNaN(value) : Object.is(value, expected[index]), `place ${place}, ${index}`);
    }
  }
});
