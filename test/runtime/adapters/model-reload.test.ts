/** A model goes and comes back, and its adapters with it, whatever is under way meanwhile. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { marksOf, openAdapters, scriptedModel } from '../../support/scripted-adapters.ts';
import { inMemory, listen, refusal, serveAdapters } from '../../support/served-adapters.ts';

test('the adapters of a model go with it, stay remembered, and come back with it', async (t) => {
  const { registry, model, load, stopping } = await serveAdapters(t);
  const { heard, done } = listen(registry);
  await load(1, 2);
  await registry.activate('first', 'a1');
  const lease = registry.acquire(model, null);
  const running = lease.use(async (weighted) => {
    registry.modelUnloaded('first');
    assert.deepEqual(marksOf(model, weighted), [1]);
    return true;
  });
  assert.equal(await running, true);
  lease.release();
  assert.deepEqual([registry.list(), registry.usedBytes, inMemory(model)], [[], 0, []]);
  assert.throws(() => registry.acquire(model, null), { code: 'NOT_FOUND' });
  await assert.rejects(registry.load({ id: 'a1', modelId: 'first', source: 'dir:x' }), { code: 'NOT_FOUND' });
  assert.equal(await registry.unload('a2'), true);

  const next = await scriptedModel('first');
  await registry.modelLoaded(next);
  assert.deepEqual(
    registry.list().map(({ id }) => id),
    ['a1'],
  );
  assert.equal(registry.activeOf('first')?.id, 'a1');
  assert.throws(() => registry.acquire(model, null), { code: 'NOT_FOUND' });
  stopping.abort();
  await done;
  assert.deepEqual(heard.slice(3), ['unloaded a1', 'unloaded a2', 'loaded a1', 'activated a1']);
});

test('a model that is unloaded while an adapter of it is loaded takes the adapter with it', async (t) => {
  const { registry, reader, model, dataDir } = await serveAdapters(t);
  await reader.write('x', { memoryBytes: 10, mark: 1 });
  const resume = reader.pause();
  const loading = registry.load({ id: 'x', modelId: 'first', source: 'dir:x' });
  registry.modelUnloaded('first');
  resume();
  await assert.rejects(loading, refusal('NOT_FOUND', 'model', /unloaded meanwhile/));
  assert.deepEqual([registry.usedBytes, inMemory(model)], [0, []]);
  const again = await openAdapters(t, { reader, dataDir });
  assert.equal(again.registry.targetsOf('first').modules.size, 0);
});

test('an id that is given away while its model comes into service stays with whom it was given to', async (t) => {
  const { registry, reader, load } = await serveAdapters(t);
  await load(1);
  const other = await scriptedModel('other');
  await registry.modelLoaded(other);
  registry.modelUnloaded('first');
  const back = registry.modelLoaded(await scriptedModel('first'));
  // its folder is being looked for
  assert.equal(await registry.unload('a1'), true);
  await reader.write('x', { memoryBytes: 10, mark: 9 });
  await registry.load({ id: 'a1', modelId: 'other', source: 'dir:x' });
  await back;
  assert.deepEqual(
    registry.list().map(({ id, model, source }) => [id, model.id, source]),
    [['a1', 'other', 'dir:x']],
  );
});

test('a model that comes back while an adapter of its former self is being saved does not get it, and keeps the active one', async (t) => {
  const { registry, reader, store, model, load, stopping } = await serveAdapters(t);
  await load(1);
  await registry.activate('first', 'a1');
  await reader.write('x', { memoryBytes: 10, mark: 9 });
  const { heard, done } = listen(registry);
  for (const activate of [false, true]) {
    const { held, resume } = store.hold();
    const loading = registry.load({ id: 'x', modelId: 'first', source: 'dir:x', activate });
    const refused = assert.rejects(loading, refusal('NOT_FOUND', 'model', /unloaded meanwhile/));
    await held;
    registry.modelUnloaded('first');
    const next = await scriptedModel('first');
    const back = registry.modelLoaded(next);
    // its own activation would meet the other's end
    assert.throws(() => registry.acquire(next, null), { code: 'NOT_FOUND' });
    resume();
    await Promise.all([refused, back]);
    assert.deepEqual(
      registry.list().map(({ id, model: owner }) => [id, owner === next]),
      [['a1', true]],
    );
    assert.equal(registry.activeOf('first')?.id, 'a1');
    assert.deepEqual(inMemory(model).includes('x') || inMemory(next).includes('x'), false);
  }
  await registry.load({ id: 'x', modelId: 'first', source: 'dir:x' });
  stopping.abort();
  await done;
  assert.deepEqual(
    heard.filter((change) => change.endsWith(' x')),
    ['failed x', 'failed x', 'loaded x'],
  );
});

test('an activation that is being saved while its model comes back is in force when it is back', async (t) => {
  const { registry, store, load } = await serveAdapters(t);
  await load(1, 2);
  await registry.activate('first', 'a1');
  const { held, resume } = store.hold();
  const activating = registry.activate('first', 'a2');
  await held;
  registry.modelUnloaded('first');
  const back = registry.modelLoaded(await scriptedModel('first'));
  resume();
  await Promise.all([activating, back]);
  assert.equal(registry.activeOf('first')?.id, 'a2');
});
