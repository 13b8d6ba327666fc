/** Adapters that are not in memory are brought in when a request names them, within the budget. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RuntimeError } from '../../../src/runtime/errors.ts';
import { marksOf } from '../../support/scripted-adapters.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';
import { inMemory, listen, refusal, serveAdapters } from '../../support/served-adapters.ts';

const SEED = 31;

test('two requests for an absent adapter share one load, and begin in the same tick when it is there', async (t) => {
  const { registry, reader, model, load, ask } = await serveAdapters(t, { budgetBytes: 10 });
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
  const { registry, model, load, ask } = await serveAdapters(t, { budgetBytes: 20 });
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
  const { registry, reader, load, ask, stopping } = await serveAdapters(t, { budgetBytes: 10 });
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
  const { registry, model, load, reader } = await serveAdapters(t, { budgetBytes: 200, maxWaiting: 1000 });
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
