/** Adapters come, are lent, and go; the reader and the engine do what the test tells them to. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { RuntimeError } from '../../../src/runtime/errors.ts';
import type { ServedModel } from '../../../src/runtime/models/served-model.ts';
import { marksOf, openAdapters, scriptedModel } from '../../support/scripted-adapters.ts';
import { ScriptedEngine } from '../../support/scripted-engine.ts';
import { inMemory, listen, refusal, serveAdapters } from '../../support/served-adapters.ts';

test('a request has the active adapter, none, or the weighted ones it names', async (t) => {
  const { registry, model, load, ask } = await serveAdapters(t);
  await load(1, 2);
  assert.deepEqual(await ask(null), []);
  await registry.activate('first', 'a1');
  assert.deepEqual(await ask(null), [1]);
  assert.deepEqual(await ask([]), []);
  assert.deepEqual(await ask([{ id: 'a2' }, { id: 'a1', weight: null }]), [2, 1]);
  const lease = registry.acquire(model, [{ id: 'a2', weight: 0.25 }, { id: 'a1' }]);
  await lease.use(async (weighted) =>
    assert.deepEqual(weighted, [
      { key: 'a2', weight: 0.25 },
      { key: 'a1', weight: 1 },
    ]),
  );
  assert.deepEqual(
    lease.adapters.map(({ id }) => id),
    ['a2', 'a1'],
  );
  lease.count(7);
  lease.release();
  const { requestCount, completionTokenCount } = registry.find('a2') ?? {};
  assert.deepEqual([requestCount, completionTokenCount], [1, 7]);
});

test('what a request may not have is refused by name', async (t) => {
  const { registry, reader, model, load } = await serveAdapters(t);
  await load(1);
  const other = await scriptedModel('other');
  await registry.modelLoaded(other);
  await reader.write('x', { memoryBytes: 10, mark: 9 });
  await registry.load({ id: 'x', modelId: 'other', source: 'dir:x' });
  const resume = reader.pause();
  const loading = registry.load({ id: 'slow', modelId: 'first', source: 'dir:x' });
  const draining = registry.acquire(other, [{ id: 'x' }]);
  const unloading = registry.unload('x');
  for (const [choices, code, message] of [
    [[{ id: 'none' }], 'NOT_FOUND', /\(a1, slow\), "none" came/],
    [[{ id: 'x' }], 'BAD_USER_INPUT', /x came, which is one of other/],
    [[{ id: 'a1' }, { id: 'a1' }], 'BAD_USER_INPUT', /a1 came twice/],
    [[{ id: 'a1', weight: Number.NaN }], 'BAD_USER_INPUT', /weight of a1 from -100 to 100, NaN came/],
    [[{ id: 'slow' }], 'CONFLICT', /slow is LOADING/],
  ] as const) {
    assert.throws(() => registry.acquire(model, choices), refusal(code, 'adapters', message));
  }
  assert.throws(() => registry.acquire(other, [{ id: 'x' }]), refusal('CONFLICT', 'adapters', /x is DRAINING/));
  draining.release();
  assert.equal(await unloading, true);
  resume();
  await loading;
});

test('an id is taken from the moment it is loaded, and free again when it is unloaded', async (t) => {
  const { registry, reader, load } = await serveAdapters(t, { maxAdapters: 2 });
  await reader.write('x', { memoryBytes: 10, mark: 9 });
  const resume = reader.pause();
  const loading = registry.load({ id: 'x', modelId: 'first', source: 'dir:x', name: 'Number nine' });
  assert.equal(registry.find('x')?.status, 'loading');
  const again = { id: 'x', modelId: 'first', source: 'dir:x' };
  await assert.rejects(registry.load(again), refusal('CONFLICT', 'id', /x is an adapter of model first/));
  await assert.rejects(registry.unload('x'), refusal('CONFLICT', 'id', /x is LOADING/));
  await assert.rejects(registry.activate('first', 'x'), refusal('CONFLICT', 'adapter', /x is LOADING/));
  resume();
  const { status, name, facts } = await loading;
  assert.deepEqual([status, name, facts.sha256], ['ready', 'Number nine', 'sha-9']);
  await assert.rejects(registry.load(again), { code: 'CONFLICT' });
  await load(1);
  await assert.rejects(registry.load({ ...again, id: 'y' }), (error: RuntimeError) => {
    assert.deepEqual([error.code, error.details.limit], ['BAD_USER_INPUT', 'GISTQL_MAX_ADAPTERS']);
    return true;
  });
  assert.equal(await registry.unload('x'), true);
  assert.equal(await registry.unload('x'), false);
  await registry.load(again);
});

test('bad names and models are refused before anything is read', async (t) => {
  const { registry, reader } = await serveAdapters(t);
  const good = { id: 'x', modelId: 'first', source: 'dir:x' };
  await assert.rejects(registry.load({ ...good, id: '../x' }), refusal('BAD_USER_INPUT', 'id', /"\.\.\/x" came/));
  await assert.rejects(registry.load({ ...good, name: '' }), refusal('BAD_USER_INPUT', 'name', /one of 0 came/));
  await assert.rejects(registry.load({ ...good, modelId: 'none' }), refusal('NOT_FOUND', 'model', /\(first\), "none"/));
  await assert.rejects(registry.activate('none', null), refusal('NOT_FOUND', 'model', /\(first\)/));
  await assert.rejects(registry.activate('first', 'none'), refusal('NOT_FOUND', 'adapter', /\(none\), "none"/));
  assert.deepEqual(reader.reads, []);
});

test('an adapter that cannot be loaded leaves nothing', async (t) => {
  const { registry, reader, model, stopping } = await serveAdapters(t);
  const { heard, done } = listen(registry);
  await assert.rejects(registry.load({ id: 'x', modelId: 'first', source: 'dir:none' }), { code: 'NOT_FOUND' });
  await reader.write('large', { memoryBytes: 101, mark: 1 });
  await assert.rejects(registry.load({ id: 'x', modelId: 'first', source: 'dir:large' }), (error: RuntimeError) => {
    assert.equal(error.code, 'BAD_USER_INPUT');
    assert.deepEqual(error.details, { argument: 'source', limit: 'GISTQL_ADAPTERS_MEMORY_MB' });
    return true;
  });
  assert.ok(model.engine instanceof ScriptedEngine);
  model.engine.addFailure = new Error('no engine');
  await reader.write('small', { memoryBytes: 1, mark: 1 });
  await assert.rejects(registry.load({ id: 'x', modelId: 'first', source: 'dir:small' }), { message: 'no engine' });
  assert.deepEqual([registry.list(), registry.usedBytes, registry.targetsOf('first').modules.size], [[], 0, 0]);
  stopping.abort();
  await done;
  assert.deepEqual(heard, ['failed x', 'failed x', 'failed x']);
});

test('an adapter that cannot be remembered is not loaded', async (t) => {
  const { registry, reader, model, dataDir } = await serveAdapters(t);
  await reader.write('x', { memoryBytes: 1, mark: 1 });
  // a folder where the file is to be written
  const blocked = await openAdapters(t, { reader, dataDir: join(dataDir, 'file') });
  await writeFile(join(dataDir, 'file'), '');
  await blocked.registry.modelLoaded(model);
  await assert.rejects(blocked.registry.load({ id: 'x', modelId: 'first', source: 'dir:x' }));
  assert.deepEqual([blocked.registry.list(), inMemory(model)], [[], []]);
  await registry.load({ id: 'x', modelId: 'first', source: 'dir:x' });
});

test('an activation changes the next request; a running one keeps what it has', async (t) => {
  const { registry, model, load, ask, stopping } = await serveAdapters(t);
  const { heard, done } = listen(registry);
  await load(1, 2);
  await registry.activate('first', 'a1');
  const running = registry.acquire(model, null);
  await registry.activate('first', 'a2');
  assert.deepEqual(await ask(null), [2]);
  assert.deepEqual(await running.use(async (weighted) => marksOf(model, weighted)), [1]);
  running.release();
  await registry.activate('first', 'a2');
  await registry.activate('first', null);
  await registry.activate('first', null);
  assert.deepEqual(await ask(null), []);
  stopping.abort();
  await done;
  assert.deepEqual(heard, ['loaded a1', 'loaded a2', 'activated a1', 'activated a2', 'deactivated a2']);
});

test('an adapter is unloaded when the last request that has it ends; the model returns to its own weights at once', async (t) => {
  const { registry, model, load, ask, stopping } = await serveAdapters(t);
  const { heard, done } = listen(registry);
  await load(1, 2);
  await registry.activate('first', 'a1');
  const leases = [registry.acquire(model, null), registry.acquire(model, [{ id: 'a1' }, { id: 'a2' }])];
  const unloads = [registry.unload('a1'), registry.unload('a1')];
  assert.equal(registry.activeOf('first'), undefined);
  assert.deepEqual(await ask(null), []);
  assert.equal(registry.find('a1')?.status, 'draining');
  for (const lease of leases) {
    assert.ok((await lease.use(async (weighted) => marksOf(model, weighted)))?.includes(1));
    assert.equal(registry.find('a1')?.status, 'draining');
    lease.release();
    lease.release();
  }
  assert.deepEqual(await Promise.all(unloads), [true, true]);
  assert.deepEqual(inMemory(model), ['a2']);
  assert.equal(registry.find('a1'), undefined);
  stopping.abort();
  await done;
  assert.deepEqual(heard, ['loaded a1', 'loaded a2', 'activated a1', 'deactivated a1', 'unloaded a1']);
});

test('a change is told as it was, whenever it is read', async (t) => {
  const { registry, load, ask, stopping } = await serveAdapters(t);
  const feed = registry.changes(null, new AbortController().signal);
  await load(1);
  await registry.activate('first', 'a1');
  const lease = registry.acquire(registry.list()[0]?.model as ServedModel, null);
  lease.count(7);
  lease.release();
  assert.deepEqual(await ask(null), [1]);
  await registry.unload('a1');
  stopping.abort();
  const told: unknown[] = [];
  for await (const { change, adapter } of feed) told.push([change, adapter.status, adapter.completionTokenCount]);
  assert.deepEqual(told, [
    ['loaded', 'ready', 0],
    ['activated', 'ready', 0],
    ['deactivated', 'draining', 7],
    ['unloaded', 'draining', 7],
  ]);
});
