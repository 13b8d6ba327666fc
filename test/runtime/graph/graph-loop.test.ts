/** Loops and branches inside graphs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BOOL, GraphBuilder } from '../../../src/runtime/graph/graph-builder.ts';
import { Session } from '../../../src/runtime/session.ts';
import { floatTensor, longTensor } from '../../../src/runtime/tensor.ts';

test('a loop carries, stacks what each turn gives, and ends when a turn says so', async () => {
  const graph = new GraphBuilder('powers');
  const count = graph.input('count', 'int64', [1]);
  const start = graph.input('start', 'float32', [2]);
  const value = { type: 'float32', dims: [2] } as const;
  const [last, powers] = graph.loop(count, [{ ...value, start }], [value], (iteration, [x]) => {
    const doubled = graph.node('Add', [x as typeof start, x as typeof start]);
    const goesOn = graph.node('Less', [iteration, graph.constant('end', longTensor([3], []))]);
    return { goesOn, carried: [doubled], scanned: [graph.node('Identity', [doubled])] };
  });
  graph.output(last as typeof start, 'last', 'float32', [2]);
  graph.output(powers as typeof start, 'powers', 'float32', ['turns', 2]);
  const session = await Session.create(graph.build(), { threadCount: 1 });
  const run = async (turns: number) => {
    const feeds = { count: longTensor([turns]), start: floatTensor(Float32Array.of(1, 3), [2]) };
    const outputs = await session.run(feeds, ['last', 'powers']);
    return { last: [...outputs.floats('last')], powers: [...outputs.floats('powers')] };
  };
  assert.deepEqual(await run(2), { last: [4, 12], powers: [2, 6, 4, 12] });
  // four turns: the fourth is the first that wants no other
  assert.deepEqual((await run(9)).last, [16, 48]);
  await session.dispose();
});

test('a weight in the same memory is one weight, wherever it is used', () => {
  const graph = new GraphBuilder('shared');
  const data = Float32Array.of(1, 2, 3, 4);
  const x = graph.input('x', 'float32', [2]);
  const isFirst = graph.node('Cast', [graph.input('first', 'int64', [1])], { to: BOOL });
  const add = () => [graph.node('Add', [x, graph.weight('shift', floatTensor(data.subarray(0, 2), [2]))])];
  const [y] = graph.eitherOf(isFirst, [{ type: 'float32', dims: [2] }], add, add);
  graph.output(y as typeof x, 'y', 'float32', [2]);
  assert.notEqual(
    graph.weight('shift', floatTensor(data.subarray(2), [2])),
    graph.weight('shift', floatTensor(data.subarray(0, 2), [2])),
  );
  assert.equal([...graph.recorded.initializers.keys()].filter((name) => name.includes('shift')).length, 2);
});
