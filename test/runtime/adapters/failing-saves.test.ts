/** What cannot be written to the disk: the registry goes on as it was, or says what is gone. */
import assert from 'node:assert/strict';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { AdapterRegistry } from '../../../src/runtime/adapters/adapter-registry.ts';
import type { ServedModel } from '../../../src/runtime/models/served-model.ts';
import { marksOf, openAdapters, type ScriptedAdapters, scriptedModel } from '../../support/scripted-adapters.ts';

interface Setting extends ScriptedAdapters {
  readonly model: ServedModel;
  /** A second registry of the same files, as after a restart. */
  restart(): Promise<AdapterRegistry>;
  /** Lets every save fail until the returned function is called. */
  block(): Promise<() => Promise<void>>;
}

/** Model `first` with the adapters `a1` and `a2`, whose marks are 1 and 2. */
async function setUp(t: TestContext): Promise<Setting> {
  const parts = await openAdapters(t);
  const { registry, reader, dataDir } = parts;
  const model = await scriptedModel('first');
  await registry.modelLoaded(model);
  for (const mark of [1, 2]) {
    await reader.write(`x${mark}`, { memoryBytes: 10, mark });
    await registry.load({ id: `a${mark}`, modelId: 'first', source: `dir:x${mark}` });
  }
  // a folder where the file is written before it is renamed
  const obstacle = join(dataDir, `.adapters.json.${process.pid}.part`);
  return {
    ...parts,
    model,
    restart: async () => {
      await registry.close();
      const again = await openAdapters(t, { reader, dataDir });
      await again.registry.modelLoaded(await scriptedModel('first'));
      return again.registry;
    },
    block: async () => {
      await mkdir(obstacle);
      return () => rm(obstacle, { recursive: true });
    },
  };
}

/** The marks that the model's next request is answered by. */
async function answeredBy({ registry, model }: Setting): Promise<readonly number[] | undefined> {
  const lease = registry.acquire(model, null);
  try {
    return await lease.use(async (weighted) => marksOf(model, weighted));
  } finally {
    lease.release();
  }
}

/** Notes what happens from now on; `stop` ends it and returns all. */
function listen({ registry, stopping }: Setting): { stop(): Promise<readonly string[]> } {
  const heard: string[] = [];
  const feed = registry.changes(null, new AbortController().signal);
  const done = (async () => {
    for await (const { change, adapter } of feed) heard.push(`${change} ${adapter.id}`);
    return heard;
  })();
  return {
    stop: () => {
      stopping.abort();
      return done;
    },
  };
}

function idsOf(registry: AdapterRegistry): readonly string[] {
  return registry.list().map(({ id }) => id);
}

const blocked = { code: 'EISDIR' };

test('an activation that cannot be saved changes nothing, told or untold, now and after a restart', async (t) => {
  const setting = await setUp(t);
  const { registry } = setting;
  await registry.activate('first', 'a1');
  const feed = listen(setting);
  const mend = await setting.block();
  for (const id of ['a2', null]) {
    await assert.rejects(registry.activate('first', id), blocked);
    assert.equal(registry.activeOf('first')?.id, 'a1');
    assert.deepEqual(await answeredBy(setting), [1]);
  }
  await mend();
  // saves whatever the registry takes for its state
  await registry.unload('a2');
  assert.equal((await setting.restart()).activeOf('first')?.id, 'a1');
  assert.deepEqual(await feed.stop(), ['unloaded a2']);
});

test('of two activations at once the later one stays, whichever of them can be saved', async (t) => {
  const setting = await setUp(t);
  const { registry } = setting;
  await Promise.all([registry.activate('first', 'a1'), registry.activate('first', 'a2')]);
  assert.equal(registry.activeOf('first')?.id, 'a2');
  const mend = await setting.block();
  const both = [registry.activate('first', 'a1'), registry.activate('first', null)];
  assert.deepEqual(
    (await Promise.allSettled(both)).map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  assert.equal(registry.activeOf('first')?.id, 'a2');
  await mend();
  await registry.unload('a1');
  assert.equal((await setting.restart()).activeOf('first')?.id, 'a2');
});

test('an adapter that is unloaded while its activation is saved is not activated', async (t) => {
  const setting = await setUp(t);
  const { registry } = setting;
  await registry.activate('first', 'a1');
  const activating = registry.activate('first', 'a2');
  const unloading = registry.unload('a2');
  await assert.rejects(activating, { code: 'CONFLICT' });
  await unloading;
  assert.equal(registry.activeOf('first')?.id, 'a1');
  assert.equal((await setting.restart()).activeOf('first')?.id, 'a1');
});

test('an adapter that is loaded to be active, and cannot be saved, leaves nothing and changes nothing', async (t) => {
  const setting = await setUp(t);
  const { registry, reader } = setting;
  await registry.activate('first', 'a1');
  await reader.write('x3', { memoryBytes: 10, mark: 3 });
  const feed = listen(setting);
  const mend = await setting.block();
  const request = { id: 'a3', modelId: 'first', source: 'dir:x3', activate: true };
  await assert.rejects(registry.load(request), blocked);
  assert.deepEqual([idsOf(registry), registry.usedBytes], [['a1', 'a2'], 20]);
  assert.deepEqual(await answeredBy(setting), [1]);
  await mend();
  await registry.load(request);
  assert.deepEqual(await answeredBy(setting), [3]);
  assert.equal((await setting.restart()).activeOf('first')?.id, 'a3');
  assert.deepEqual(await feed.stop(), ['failed a3', 'loaded a3', 'activated a3']);
});

test('an adapter that is unloaded and cannot be forgotten is gone, told of, and forgotten by the next save', async (t) => {
  const setting = await setUp(t);
  const { registry } = setting;
  await registry.activate('first', 'a1');
  const feed = listen(setting);
  const mend = await setting.block();
  await assert.rejects(registry.unload('a1'), blocked);
  assert.deepEqual([idsOf(registry), registry.usedBytes], [['a2'], 10]);
  assert.deepEqual(await answeredBy(setting), []);
  await mend();
  await registry.activate('first', 'a2');
  assert.deepEqual(idsOf(await setting.restart()), ['a2']);
  assert.deepEqual(await feed.stop(), ['deactivated a1', 'unloaded a1', 'activated a2']);
});

test('an adapter whose model is out of service and that cannot be forgotten is there still', async (t) => {
  const setting = await setUp(t);
  const { registry } = setting;
  await registry.activate('first', 'a1');
  registry.modelUnloaded('first');
  const mend = await setting.block();
  await assert.rejects(registry.unload('a1'), blocked);
  await mend();
  const model = await scriptedModel('first');
  await registry.modelLoaded(model);
  assert.deepEqual(idsOf(registry).toSorted(), ['a1', 'a2']);
  assert.equal(registry.activeOf('first')?.id, 'a1');
  registry.modelUnloaded('first');
  assert.equal(await registry.unload('a1'), true);
  assert.equal(await registry.unload('a1'), false);
});

test('where another server writes the file of adapters, changes are refused by name and this one goes on as it was', async (t) => {
  const { registry, reader, dataDir, model } = await setUp(t);
  const other = await openAdapters(t, { reader, dataDir });
  const otherModel = await scriptedModel('first');
  await other.registry.modelLoaded(otherModel);
  const taken = { code: 'CONFLICT', message: /another one holds .*adapters\.lock/ };
  await assert.rejects(other.registry.load({ id: 'a3', modelId: 'first', source: 'dir:x1' }), taken);
  await assert.rejects(other.registry.activate('first', 'a1'), taken);
  assert.deepEqual([other.registry.find('a3'), other.registry.activeOf('first')], [undefined, undefined]);
  await registry.activate('first', 'a2');
  await registry.close();
  await assert.rejects(other.registry.activate('first', 'a1'), { code: 'CONFLICT', message: /written it since/ });
  const again = await openAdapters(t, { reader, dataDir });
  await again.registry.modelLoaded(model);
  assert.equal(again.registry.activeOf('first')?.id, 'a2');
  await again.registry.activate('first', 'a1');
});
