/** An adapter that changes matrices without LoRA inputs brings in a new worker, beside the one that goes on answering. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LoraWeights } from '../../../src/runtime/lora/lora-weights.ts';
import { REQUEST, startOverFakeWorkers } from '../../support/fake-workers.ts';

function adapterOf(...modules: readonly string[]): LoraWeights {
  const nothing = new Float32Array(0);
  return {
    factors: modules.map((module) => ({ module, rank: 0, a: nothing, b: nothing, gain: undefined })),
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
