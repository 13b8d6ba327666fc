/** What the registry's file says is there again after a restart. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { marksOf, openAdapters, scriptedModel } from '../../support/scripted-adapters.ts';
import { serveAdapters } from '../../support/served-adapters.ts';

test('after a restart the adapters are there, the active one is active, and each is read when it is asked for', async (t) => {
  const { registry, reader, dataDir, load } = await serveAdapters(t);
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
  const { registry, reader, dataDir } = await serveAdapters(t);
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
  const { load, dataDir, reader } = await serveAdapters(t);
  await load(1);
  await writeFile(join(dataDir, 'adapters.json'), '{"version":');
  const again = await openAdapters(t, { reader, dataDir });
  await again.registry.modelLoaded(await scriptedModel('first'));
  assert.deepEqual(again.registry.list(), []);
  assert.match(again.warnings.join(), /does not parse.*adapters\.json\.broken-1/);
});
