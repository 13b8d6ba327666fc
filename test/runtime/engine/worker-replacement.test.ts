/** An adapter that changes matrices without LoRA inputs brings in a new worker, beside the one that goes on answering. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LoraWeights } from '../../../src/runtime/lora/lora-weights.ts';
import { REQUEST, startOverFakeWorkers } from '../../support/fake-workers.ts';

function adapterOf(...modules: readonly string[]): LoraWeights {
  const nothing = new Float32Array(0);
  return {
    factors: modules.map((module) => ({ module, rank: 0, a: nothing, b: nothing, gainChange: undefined })),
    head: undefined,
  };
}

test('the old worker answers until the new one is in service, then ends when it has answered what it has', async () => {
  const { clock, workers, events, engine } = await startOverFakeWorkers();
  const [first] = workers.starts;
  let drained = (): void => {};
  workers.draining = new Promise((resolve) => {
    drained = resolve;
  });
  const adding = engine.addAdapter('one', adapterOf('q', 'v'));
  assert.equal(workers.starts.length, 2);
  assert.deepEqual([...workers.last.targets.modules], ['q', 'v']);
  assert.deepEqual([...workers.last.adapters.keys()], ['one']);
  await assert.rejects(engine.generate(REQUEST), /answered by worker 1/);
  workers.last.succeed();
  await adding;
  assert.deepEqual([engine.status, first?.closed], ['ready', true]);
  await assert.rejects(engine.generate(REQUEST), /answered by worker 2/);
  // one that each of the two has
  assert.equal(engine.pendingCount, 2);
  drained();
  await clock.advance(0);
  assert.equal(engine.pendingCount, 1);
  assert.deepEqual(events, []);
  await engine.close();
  assert.equal(workers.closedCount, 2);
});

test('adapters that change nothing new come to the worker in service', async () => {
  const { workers, engine } = await startOverFakeWorkers();
  const adding = engine.addAdapter('one', adapterOf('q', 'v'));
  workers.last.succeed();
  await adding;
  await engine.addAdapter('two', adapterOf('v'));
  engine.dropAdapter('one');
  assert.equal(workers.starts.length, 2);
  assert.deepEqual(workers.last.adapterLog, ['+two', '-one']);
});

test('what comes and goes while a worker starts reaches it in the end; two that need a new worker share it or follow', async () => {
  const { clock, workers, engine } = await startOverFakeWorkers();
  const first = engine.addAdapter('one', adapterOf('q'));
  const second = engine.addAdapter('two', adapterOf('o'));
  const third = engine.addAdapter('three', adapterOf('q'));
  engine.dropAdapter('three');
  assert.deepEqual([...workers.last.adapters.keys()], ['one']);
  workers.last.succeed();
  await first;
  await clock.advance(0);
  assert.equal(workers.starts.length, 3);
  assert.deepEqual([...workers.last.targets.modules].sort(), ['o', 'q']);
  workers.last.succeed();
  await Promise.all([second, third]);
  assert.deepEqual([...workers.last.adapters.keys()], ['one', 'two']);
});

test('a new worker that does not start is the error of the adapter alone; the old one goes on', async () => {
  const { workers, engine } = await startOverFakeWorkers();
  const adding = engine.addAdapter('one', adapterOf('q'));
  workers.last.fail(new Error('no memory'));
  await assert.rejects(adding, /no memory/);
  assert.equal(engine.status, 'ready');
  await assert.rejects(engine.generate(REQUEST), /answered by worker 1/);
  const again = engine.addAdapter('two', adapterOf('o'));
  assert.deepEqual([...workers.last.adapters.keys()], ['two']);
  workers.last.succeed();
  await again;
});

test('a worker that is started again has all adapters', async () => {
  const { clock, workers, engine } = await startOverFakeWorkers();
  const adding = engine.addAdapter('one', adapterOf('q'));
  workers.last.succeed();
  await adding;
  workers.last.onEnded(new Error('crashed'));
  await assert.rejects(engine.addAdapter('two', adapterOf('q')), { code: 'OVERLOADED' });
  await clock.advance(500);
  assert.deepEqual([...workers.last.adapters.keys()], ['one']);
  workers.last.succeed();
  await clock.advance(0);
  assert.equal(engine.status, 'ready');
});

test('a worker that ends while another is started to replace it is followed by that one', async () => {
  const { clock, workers, events, engine } = await startOverFakeWorkers();
  const [first] = workers.starts;
  const adding = engine.addAdapter('one', adapterOf('q'));
  const cause = new Error('crashed');
  assert.equal(first?.onEnded(cause).code, 'MODEL_UNAVAILABLE');
  assert.equal(engine.status, 'restarting');
  workers.last.succeed();
  await adding;
  assert.equal(engine.status, 'ready');
  await assert.rejects(engine.generate(REQUEST), /answered by worker 2/);
  assert.equal(clock.alarmCount, 0);
  assert.deepEqual(
    events.map(({ type }) => type),
    ['ended', 'restarted'],
  );
});

for (const startedAgain of ['comes', 'fails'] as const) {
  test(`a worker that is started again and ${startedAgain} after the one that replaced it changes nothing`, async () => {
    const { clock, workers, events, engine } = await startOverFakeWorkers();
    const adding = engine.addAdapter('one', adapterOf('q'));
    workers.starts[0]?.onEnded(new Error('crashed'));
    await clock.advance(500);
    const [, replacement, again] = workers.starts;
    assert.ok(replacement !== undefined && again !== undefined);
    replacement.succeed();
    await adding;
    if (startedAgain === 'comes') again.succeed();
    else again.fail(new Error('no memory'));
    await clock.advance(0);
    assert.equal(engine.status, 'ready');
    await assert.rejects(engine.generate(REQUEST), /answered by worker 2/);
    assert.deepEqual([again.closed, replacement.closed], [startedAgain === 'comes', false]);
    assert.deepEqual(
      events.map(({ type }) => type),
      ['ended', 'restarted'],
    );
    await engine.close();
  });
}

test('a worker that ends itself while it would follow one that ended leaves the restart as it was', async () => {
  const { clock, workers, engine } = await startOverFakeWorkers();
  const adding = engine.addAdapter('one', adapterOf('q'));
  workers.starts[0]?.onEnded(new Error('crashed'));
  workers.last.succeed();
  workers.last.onEnded(new Error('crashed too'));
  await assert.rejects(adding, { code: 'MODEL_UNAVAILABLE' });
  assert.equal(engine.status, 'restarting');
  await clock.advance(500);
  workers.last.succeed();
  await clock.advance(0);
  assert.equal(engine.status, 'ready');
});

test('a worker that was started again with an adapter lets it go when the one to be started for it is not', async () => {
  const { clock, workers, engine } = await startOverFakeWorkers();
  const adding = engine.addAdapter('one', adapterOf('q'));
  workers.starts[0]?.onEnded(new Error('crashed'));
  await clock.advance(500);
  const [, replacement, again] = workers.starts;
  assert.deepEqual([...(again?.adapters.keys() ?? [])], ['one']);
  again?.succeed();
  await clock.advance(0);
  replacement?.fail(new Error('no memory'));
  await assert.rejects(adding, /no memory/);
  assert.deepEqual([engine.status, again?.adapterLog], ['ready', ['-one']]);
  await engine.addAdapter('one', adapterOf('q'));
  assert.deepEqual(again?.adapterLog, ['-one', '+one']);
});

test('an adapter whose worker does not start is not given to the next one', async () => {
  const { clock, workers, engine } = await startOverFakeWorkers();
  const adding = engine.addAdapter('one', adapterOf('q'));
  workers.starts[0]?.onEnded(new Error('crashed'));
  await clock.advance(500);
  const [, replacement, again] = workers.starts;
  replacement?.fail(new Error('no memory'));
  await assert.rejects(adding, /no memory/);
  // it was started with the adapter, and comes into service without
  again?.succeed();
  await clock.advance(0);
  assert.deepEqual([engine.status, again?.adapterLog], ['ready', ['-one']]);
});

test('adapters of modules that every worker has inputs for need no new worker', async () => {
  const { workers, engine } = await startOverFakeWorkers({ adaptedAlways: new Set(['lm_head']) });
  await engine.addAdapter('factors', adapterOf('lm_head'));
  await engine.addAdapter('whole', { factors: [], head: new Float32Array(4) });
  assert.equal(workers.starts.length, 1);
  assert.deepEqual(workers.last.adapterLog, ['+factors', '+whole']);
});

test('an adapter of the output head needs one where heads are in the graph, a whole head does not', async () => {
  const { workers, engine } = await startOverFakeWorkers();
  await engine.addAdapter('whole', { factors: [], head: new Float32Array(4) });
  assert.equal(workers.starts.length, 1);
  const adding = engine.addAdapter('factors', adapterOf('lm_head'));
  assert.deepEqual([...workers.last.targets.modules], ['lm_head']);
  workers.last.succeed();
  await adding;
  assert.equal(workers.starts.length, 2);
});

test('the end of a worker that has been replaced fails what it had and nothing else', async () => {
  const { workers, events, engine } = await startOverFakeWorkers();
  const [first] = workers.starts;
  const adding = engine.addAdapter('one', adapterOf('q'));
  workers.last.succeed();
  await adding;
  assert.equal(first?.onEnded(new Error('crashed')).code, 'MODEL_UNAVAILABLE');
  assert.deepEqual([engine.status, events], ['ready', []]);
  await assert.rejects(engine.generate(REQUEST), /answered by worker 2/);
});

test('closed while a new worker starts, it ends both', async () => {
  const { workers, engine } = await startOverFakeWorkers();
  const adding = engine.addAdapter('one', adapterOf('q'));
  const refused = assert.rejects(adding);
  await engine.close();
  await refused;
  assert.ok(workers.last.signal.aborted);
  assert.equal(workers.starts[0]?.closed, true);
});
