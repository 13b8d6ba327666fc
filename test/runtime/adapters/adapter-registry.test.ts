/** Adapters come, are lent, and go; the reader and the engine do what the test tells them to. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { AdapterRegistry } from '../../../src/runtime/adapters/adapter-registry.ts';
import type { AdapterChange, AdapterChoice } from '../../../src/runtime/adapters/served-adapter.ts';
import type { RuntimeError } from '../../../src/runtime/errors.ts';
import type { ServedModel } from '../../../src/runtime/models/served-model.ts';
import {
  marksOf,
  openAdapters,
  type ScriptedAdapters,
  type ScriptedOptions,
  scriptedModel,
} from '../../support/scripted-adapters.ts';
import { ScriptedEngine } from '../../support/scripted-engine.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const SEED = 31;

interface Loaded extends ScriptedAdapters {
  readonly model: ServedModel;
  /** Loads adapters `a1`, `a2`, … whose marks are their numbers, 10 bytes each. */
  load(...numbers: readonly number[]): Promise<void>;
  /** The marks that a request with these adapters is answered by. */
  ask(choices: readonly AdapterChoice[] | null): Promise<readonly number[] | undefined>;
}

async function setUp(t: TestContext, options: ScriptedOptions = {}): Promise<Loaded> {
  const parts = await openAdapters(t, options);
  const { registry, reader } = parts;
  const model = await scriptedModel('first');
  await registry.modelLoaded(model);
  return {
    ...parts,
    model,
    load: async (...numbers) => {
      for (const number of numbers) {
        await reader.write(`folder-${number}`, { memoryBytes: 10, mark: number });
        await registry.load({ id: `a${number}`, modelId: 'first', source: `dir:folder-${number}` });
      }
    },
    ask: async (choices) => {
      const lease = registry.acquire(model, choices);
      try {
        return await lease.use(async (weighted) => marksOf(model, weighted));
      } finally {
        lease.release();
      }
    },
  };
}

function inMemory({ engine }: ServedModel): readonly string[] {
  assert.ok(engine instanceof ScriptedEngine);
  return [...engine.adapters.keys()];
}

/** Notes what happens until the registry stops. */
function listen(registry: AdapterRegistry): { readonly heard: string[]; readonly done: Promise<void> } {
  const heard: string[] = [];
  const feed = registry.changes(null, new AbortController().signal);
  const note = ({ change, adapter }: AdapterChange) => heard.push(`${change} ${adapter.id}`);
  const done = (async () => {
    for await (const change of feed) note(change);
  })();
  return { heard, done };
}

function refusal(code: string, argument: string, message: RegExp) {
  return (error: RuntimeError) => {
    assert.equal(error.code, code, error.message);
    assert.equal(error.details.argument, argument);
    assert.match(error.message, message);
    return true;
  };
}

test('a request has the active adapter, none, or the weighted ones it names', async (t) => {
  const { registry, model, load, ask } = await setUp(t);
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
  const { registry, reader, model, load } = await setUp(t);
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
  const { registry, reader, load } = await setUp(t, { maxAdapters: 2 });
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
  const { registry, reader } = await setUp(t);
  const good = { id: 'x', modelId: 'first', source: 'dir:x' };
  await assert.rejects(registry.load({ ...good, id: '../x' }), refusal('BAD_USER_INPUT', 'id', /"\.\.\/x" came/));
  await assert.rejects(registry.load({ ...good, name: '' }), refusal('BAD_USER_INPUT', 'name', /one of 0 came/));
  await assert.rejects(registry.load({ ...good, modelId: 'none' }), refusal('NOT_FOUND', 'model', /\(first\), "none"/));
  await assert.rejects(registry.activate('none', null), refusal('NOT_FOUND', 'model', /\(first\)/));
  await assert.rejects(registry.activate('first', 'none'), refusal('NOT_FOUND', 'adapter', /\(none\), "none"/));
  assert.deepEqual(reader.reads, []);
});

test('an adapter that cannot be loaded leaves nothing', async (t) => {
  const { registry, reader, model, stopping } = await setUp(t);
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
  const { registry, reader, model, dataDir } = await setUp(t);
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
  const { registry, model, load, ask, stopping } = await setUp(t);
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
  const { registry, model, load, ask, stopping } = await setUp(t);
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

test('two requests for an absent adapter share one load, and begin in the same tick when it is there', async (t) => {
  const { registry, reader, model, load, ask } = await setUp(t, { budgetBytes: 10 });
  await load(1, 2);
  assert.deepEqual(inMemory(model), ['a2']);
  reader.reads.length = 0;
  assert.deepEqual(await Promise.all([ask([{ id: 'a1' }]), ask([{ id: 'a1' }])]), [[1], [1]]);
  assert.deepEqual(reader.reads, ['dir:folder-1']);
  const leases = [registry.acquire(model, [{ id: 'a1' }]), registry.acquire(model, [])];
  let begun = 0;
  const running = leases.map((lease) => lease.use(async () => void begun++));
  assert.equal(begun, 2);
  await Promise.all(running);
  for (const lease of leases) lease.release();
});

test('with all memory in use a request waits; what could never be in memory together is refused', async (t) => {
  const { registry, model, load, ask } = await setUp(t, { budgetBytes: 20 });
  await load(1, 2, 3);
  assert.throws(
    () => registry.acquire(model, [{ id: 'a1' }, { id: 'a2' }, { id: 'a3' }]),
    (error: RuntimeError) => error.details.limit === 'GISTQL_ADAPTERS_MEMORY_MB',
  );
  const lease = registry.acquire(model, [{ id: 'a1' }, { id: 'a2' }]);
  let release = (): void => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const running = lease.use(() => held);
  let answered = false;
  const waiting = ask([{ id: 'a3' }]).then((marks) => {
    answered = true;
    return marks;
  });
  const leaving = new AbortController();
  const left = registry.acquire(model, [{ id: 'a3' }]);
  const never = left.use(async () => assert.fail('it left'), leaving.signal);
  leaving.abort();
  assert.equal(await never, undefined);
  left.release();
  await new Promise(setImmediate);
  assert.equal(answered, false);
  release();
  await running;
  lease.release();
  assert.deepEqual(await waiting, [3]);
});

test('files that changed are INVALID_ADAPTER, and the adapter is FAILED until they are as they were', async (t) => {
  const { registry, reader, load, ask, stopping } = await setUp(t, { budgetBytes: 10 });
  await load(1, 2);
  const { heard, done } = listen(registry);
  const files = { memoryBytes: 10, mark: 1 };
  await reader.write('folder-1', { ...files, mark: 7 });
  await assert.rejects(ask([{ id: 'a1' }]), (error: RuntimeError) => {
    assert.equal(error.code, 'INVALID_ADAPTER');
    assert.match(error.message, /sha256 sha-1\), others came \(sha-7\)/);
    return true;
  });
  reader.remove('folder-1');
  await assert.rejects(ask([{ id: 'a1' }]), { code: 'INVALID_ADAPTER' });
  assert.equal(registry.find('a1')?.status, 'failed');
  await assert.rejects(registry.activate('first', 'a1'), refusal('CONFLICT', 'adapter', /a1 is FAILED/));
  await reader.write('folder-1', files);
  assert.deepEqual(await ask([{ id: 'a1' }]), [1]);
  assert.equal(registry.find('a1')?.status, 'ready');
  stopping.abort();
  await done;
  assert.deepEqual(heard, ['failed a1', 'loaded a1']);
});

test(`200 adapters in a budget of 20: never over it, every answer by the right ones (seed ${SEED})`, async (t) => {
  const { registry, model, load, reader } = await setUp(t, { budgetBytes: 200, maxWaiting: 1000 });
  await load(...Array.from({ length: 200 }, (_, index) => index));
  const next = seededNumbers(SEED);
  const pause = async (): Promise<void> => {
    for (let wait = Math.floor(next() * 3); wait > 0; wait--) await new Promise(setImmediate);
  };
  const answer = async (): Promise<void> => {
    await pause();
    const numbers = [...new Set(Array.from({ length: 1 + Math.floor(next() * 3) }, () => Math.floor(next() * 200)))];
    const lease = registry.acquire(
      model,
      numbers.map((number) => ({ id: `a${number}` })),
    );
    await lease.use(async (weighted) => {
      assert.deepEqual(marksOf(model, weighted), numbers);
      await pause();
      assert.deepEqual(marksOf(model, weighted), numbers);
      assert.ok(registry.usedBytes <= 200 && inMemory(model).length <= 20);
    });
    lease.count(1);
    lease.release();
  };
  for (let round = 0; round < 20; round++) await Promise.all(Array.from({ length: 50 }, answer));
  assert.ok(reader.reads.length > 400, `${reader.reads.length} reads`);
  assert.equal(registry.list().reduce((sum, { requestCount }) => sum + requestCount, 0) >= 1000, true);
});

test('after a restart the adapters are there, the active one is active, and each is read when it is asked for', async (t) => {
  const { registry, reader, dataDir, load } = await setUp(t);
  await load(1, 2, 3);
  await reader.write('x', { memoryBytes: 10, mark: 4, method: 'DORA' });
  await registry.load({ id: 'dora', modelId: 'first', source: 'dir:x' });
  await registry.activate('first', 'a2');
  await registry.unload('a3');
  const again = await openAdapters(t, { reader, dataDir });
  assert.deepEqual(again.registry.list(), []);
  assert.deepEqual(again.registry.targetsOf('first'), {
    modules: new Set(['module.1', 'module.2', 'module.4']),
    gains: new Set(['module.4']),
  });
  assert.equal(again.registry.targetsOf('other').modules.size, 0);
  reader.reads.length = 0;
  const model = await scriptedModel('first');
  await again.registry.modelLoaded(model);
  assert.deepEqual(
    again.registry.list('first').map(({ id, name, status, facts }) => [id, name, status, facts.sha256]),
    [
      ['a1', 'a1', 'ready', 'sha-1'],
      ['a2', 'a2', 'ready', 'sha-2'],
      ['dora', 'dora', 'ready', 'sha-4'],
    ],
  );
  assert.deepEqual(reader.reads, []);
  const lease = again.registry.acquire(model, null);
  assert.deepEqual(await lease.use(async (weighted) => marksOf(model, weighted)), [2]);
  lease.release();
  assert.deepEqual([reader.reads, again.warnings], [['dir:folder-2'], []]);
});

test('an adapter whose folder is gone at the start is FAILED and told of, and stays remembered', async (t) => {
  const { registry, reader, dataDir } = await setUp(t);
  await reader.write('x', { memoryBytes: 10, mark: 1 });
  await registry.load({ id: 'x', modelId: 'first', source: 'dir:x', activate: true });
  await registry.close();
  const moved = await openAdapters(t, { dataDir });
  const model = await scriptedModel('first');
  await moved.registry.modelLoaded(model);
  assert.equal(moved.registry.find('x')?.status, 'failed');
  assert.match(moved.warnings.join(), /adapter folder.* x came/);
  // the model's own weights would be a wrong answer without a word
  const lease = moved.registry.acquire(model, null);
  await assert.rejects(
    lease.use(async () => assert.fail('no files')),
    { code: 'INVALID_ADAPTER' },
  );
  lease.release();
  await moved.registry.activate('first', null);
  await moved.registry.close();
  const back = await openAdapters(t, { reader, dataDir });
  await back.registry.modelLoaded(await scriptedModel('first'));
  assert.equal(back.registry.find('x')?.status, 'ready');
  assert.equal(back.registry.activeOf('first'), undefined);
});

test('a broken file is told of and put aside; the server starts without adapters', async (t) => {
  const { load, dataDir, reader } = await setUp(t);
  await load(1);
  await writeFile(join(dataDir, 'adapters.json'), '{"version":');
  const again = await openAdapters(t, { reader, dataDir });
  await again.registry.modelLoaded(await scriptedModel('first'));
  assert.deepEqual(again.registry.list(), []);
  assert.match(again.warnings.join(), /does not parse.*adapters\.json\.broken-1/);
});

test('the adapters of a model go with it, stay remembered, and come back with it', async (t) => {
  const { registry, model, load, stopping } = await setUp(t);
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
  const { registry, reader, model, dataDir } = await setUp(t);
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
  const { registry, reader, load } = await setUp(t);
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

test('a change is told as it was, whenever it is read', async (t) => {
  const { registry, load, ask, stopping } = await setUp(t);
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
