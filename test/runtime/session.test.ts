/** What the engine's cache relies on in onnxruntime-node: inputs are read where they lie, at the time of the run. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GraphBuilder } from '../../src/runtime/graph/graph-builder.ts';
import { Session } from '../../src/runtime/session.ts';
import { floatTensor } from '../../src/runtime/tensor.ts';

const THREADS = { threadCount: 1 };

/** y = x + 1 over any number of floats. */
function addOne(): Promise<Session> {
  const graph = new GraphBuilder('add one');
  const x = graph.input('x', 'float32', ['length']);
  const one = graph.weight('one', floatTensor(Float32Array.of(1), [1]));
  graph.output(graph.node('Add', [x, one]), 'y', 'float32', ['length']);
  return Session.create(graph.build(), THREADS);
}

/** y = the last element of x: reads next to nothing, however long x is. */
function lastOf(): Promise<Session> {
  const graph = new GraphBuilder('last of');
  const x = graph.input('x', 'float32', ['length']);
  graph.output(graph.node('Gather', [x, graph.integers(-1)], { axis: 0 }), 'y', 'float32', [1]);
  return Session.create(graph.build(), THREADS);
}

test('a run reads what its input holds now, and a view what its part of the array holds', async (t) => {
  const session = await addOne();
  t.after(() => session.dispose());
  const data = Float32Array.of(0, 1, 2, 3, 4, 5);
  const feeds = { x: floatTensor(data.subarray(2, 5), [3]) };
  const first = (await session.run(feeds, ['y'])).floats('y');
  assert.deepEqual([...first], [3, 4, 5]);
  data.set([20, 30, 40], 2);
  assert.deepEqual([...(await session.run(feeds, ['y'])).floats('y')], [21, 31, 41]);
  // what a run gave is the caller's own
  assert.deepEqual([...first], [3, 4, 5]);
});

test('no copy is made when a run is asked for: what is written before it begins is read', async (t) => {
  const session = await addOne();
  t.after(() => session.dispose());
  const data = Float32Array.of(1, 2);
  const running = session.run({ x: floatTensor(data, [2]) }, ['y']);
  data.fill(7);
  assert.deepEqual([...(await running).floats('y')], [8, 8]);
});

test('no copy is made in a run: one of a large input would show in the memory that the process ever had', async (t) => {
  const session = await lastOf();
  t.after(() => session.dispose());
  const mebibyte = 2 ** 20;
  const peak = (): number => (process.resourceUsage().maxRSS * 1024) / mebibyte;
  const data = new Float32Array((128 * mebibyte) / 4).fill(1);
  const feeds = { x: floatTensor(data, [data.length]) };
  await session.run(feeds, ['y']);
  // what was freed since the peak would hide a copy: hold as much
  const ballast = new Uint8Array(Math.max(0, (peak() - process.memoryUsage.rss() / mebibyte) * mebibyte)).fill(1);
  const before = peak();
  data[data.length - 1] = 5;
  const y = (await session.run(feeds, ['y'])).floats('y');
  assert.deepEqual([...y], [5]);
  const grown = peak() - before;
  assert.ok(grown < 32, `${grown} MiB more`);
  // the measure works: a copy shows
  const copy = data.slice();
  assert.ok(peak() - before > 96, `${peak() - before} MiB more with a copy of ${copy.byteLength + ballast.byteLength}`);
});

/** y = x + 1 and z = x + 2, written into the caller's arrays. */
function addInPlace(): Promise<Session> {
  const graph = new GraphBuilder('add in place');
  graph.writeInPlace();
  const x = graph.input('x', 'float32', ['length']);
  const one = graph.weight('one', floatTensor(Float32Array.of(1), [1]));
  const y = graph.node('Add', [x, one]);
  graph.output(y, 'y', 'float32', ['length']);
  graph.output(graph.node('Add', [y, one]), 'z', 'float32', ['length']);
  return Session.create(graph.build(), THREADS);
}

test('outputs are written into the arrays of the caller, and faults of the run are told', async (t) => {
  const session = await addInPlace();
  t.after(() => session.dispose());
  const [y, z] = [new Float32Array(3), new Float32Array(3)];
  const x = floatTensor(Float32Array.of(1, 2, 3), [3]);
  await session.runInto({ x }, { y: floatTensor(y, [3]), z: floatTensor(z, [3]) });
  assert.deepEqual([...y], [2, 3, 4]);
  assert.deepEqual([...z], [3, 4, 5]);
  await assert.rejects(session.runInto({ x }, { z: floatTensor(new Float32Array(2), [2]) }));
});

test('outputs that are written in place are not copied', async (t) => {
  const session = await addInPlace();
  t.after(() => session.dispose());
  const length = 2 ** 22;
  const x = floatTensor(new Float32Array(length), [length]);
  const outputs = {
    y: floatTensor(new Float32Array(length), [length]),
    z: floatTensor(new Float32Array(length), [length]),
  };
  await session.runInto({ x }, outputs);
  const before = process.memoryUsage().arrayBuffers;
  await session.runInto({ x }, outputs);
  assert.ok(process.memoryUsage().arrayBuffers - before < length);
});
