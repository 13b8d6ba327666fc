import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, rm, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { parseConfig } from '../../../src/runtime/models/parse-config.ts';
import { AdapterLoader } from '../../../src/runtime/peft/adapter-loader.ts';
import { type AdapterBase, readAdapter } from '../../../src/runtime/peft/read-adapter.ts';
import { refuses } from '../../support/refuses.ts';
import { type TinyAdapterOptions, writeTinyAdapter } from '../../support/tiny-adapter.ts';
import { writeTinyModel } from '../../support/tiny-model.ts';
import { nextWorker, watchWorkers } from '../../support/worker-threads.ts';

interface Setting {
  readonly loader: AdapterLoader;
  readonly adaptersDir: string;
  readonly base: AdapterBase;
  /** Threads started since. */
  readonly workers: readonly Worker[];
}

async function setUp(t: TestContext, adapters: Readonly<Record<string, TinyAdapterOptions>>): Promise<Setting> {
  const model = await writeTinyModel(t);
  const adaptersDir = join(model.parent, 'adapters');
  await mkdir(adaptersDir);
  for (const [name, options] of Object.entries(adapters)) await writeTinyAdapter(adaptersDir, name, options);
  const workers = watchWorkers(t);
  const loader = new AdapterLoader({ adaptersDir }, { maxRank: 16 });
  t.after(() => loader.close());
  return { loader, adaptersDir, base: { modelFolder: model.folder, config: parseConfig(model.config) }, workers };
}

test('a thread reads what the process would read, in shared memory', async (t) => {
  const options = { one: { dora: true, head: true }, two: { targets: 'all-linear', seed: 7 } } as const;
  const { loader, adaptersDir, base, workers } = await setUp(t, options);
  assert.equal(workers.length, 0, 'a thread is started when it is needed');
  const loaded = await Promise.all(['one', 'two', 'one'].map((name) => loader.load(`dir:${name}`, base)));
  for (const [index, name] of ['one', 'two', 'one'].entries()) {
    const expected = await readAdapter(join(adaptersDir, name), base, { maxRank: 16 });
    assert.deepEqual(loaded[index]?.facts, expected.facts);
    assert.deepEqual(loaded[index]?.weights, expected.weights);
    assert.ok(
      loaded[index]?.weights.factors.every(
        ({ a, b }) => a.buffer instanceof SharedArrayBuffer && a.buffer === b.buffer,
      ),
    );
  }
  assert.equal(workers.length, 1);
});

test('errors come back with their codes and details, and hold nothing up', async (t) => {
  const { loader, base } = await setUp(t, { good: {}, broken: { config: { r: 0 } }, large: { rank: 17 } });
  const settled = await Promise.allSettled(
    ['broken', 'large', 'gone', 'good'].map((name) => loader.load(`dir:${name}`, base)),
  );
  const [broken, large, gone, good] = settled.map((result) =>
    result.status === 'rejected' ? result.reason : result.value,
  );
  refuses('INVALID_ADAPTER', /r to be a whole number/)(broken);
  refuses('INCOMPATIBLE_ADAPTER', /at most 16/)(large);
  assert.deepEqual(large.details, { limit: 'GISTQL_MAX_ADAPTER_RANK' });
  refuses('NOT_FOUND', /an existing adapter folder \(broken, good, large\), gone came/)(gone);
  assert.deepEqual(gone.details, { argument: 'source' });
  assert.equal(good.facts.rank, 4);
});

for (const source of [
  '',
  'good',
  'dir:',
  'dir:..',
  'dir:../tiny',
  'dir:/etc',
  'embedded:good',
  'dir:link',
  'dir:good\n',
]) {
  test(`a source is never a path: ${JSON.stringify(source)} is refused`, async (t) => {
    const { loader, adaptersDir, base } = await setUp(t, { good: {} });
    await symlink(dirname(adaptersDir), join(adaptersDir, 'link'));
    await assert.rejects(loader.load(source, base), refuses('BAD_USER_INPUT', /Expected/));
  });
}

test('a thread that ends fails the load that it was at; the others get another', async (t) => {
  const { loader, base, workers } = await setUp(t, { one: {}, two: { seed: 2 }, three: { seed: 3 } });
  const started = nextWorker();
  const loads = ['one', 'two', 'three'].map((name) => loader.load(`dir:${name}`, base));
  await (await started).terminate();
  const settled = await Promise.allSettled(loads);
  assert.deepEqual(
    settled.map(({ status }) => status),
    ['rejected', 'fulfilled', 'fulfilled'],
  );
  const [first] = settled;
  assert.ok(first?.status === 'rejected');
  refuses(
    'INTERNAL_SERVER_ERROR',
    /"dir:one": expected the thread that reads adapters to answer, it ended/,
  )(first.reason);
  assert.equal(workers.length, 2);
});

test('a thread that ends while nothing is to be read is started again by the next load', async (t) => {
  const { loader, base, workers } = await setUp(t, { one: {} });
  await loader.load('dir:one', base);
  await workers[0]?.terminate();
  assert.equal((await loader.load('dir:one', base)).facts.rank, 4);
  assert.equal(workers.length, 2);
});

test('closing ends the thread and refuses what was not read', async (t) => {
  const { loader, base, workers } = await setUp(t, { one: {}, two: {} });
  const started = nextWorker();
  const loads = ['one', 'two'].map((name) => loader.load(`dir:${name}`, base));
  const ended = once(await started, 'exit');
  const closed = loader.close();
  for (const load of loads) await assert.rejects(load, refuses('OVERLOADED', /the server is stopping/));
  await closed;
  await ended;
  await assert.rejects(loader.load('dir:one', base), refuses('OVERLOADED', /stopping/));
  assert.equal(workers.length, 1);
});

test('weights stay as they were read when the folder goes and the loader closes', async (t) => {
  const { loader, adaptersDir, base } = await setUp(t, { one: {} });
  const { weights } = await loader.load('dir:one', base);
  const before = structuredClone(weights.factors.map(({ a, b }) => [[...a], [...b]]));
  await rm(join(adaptersDir, 'one'), { recursive: true });
  await loader.close();
  assert.deepEqual(
    weights.factors.map(({ a, b }) => [[...a], [...b]]),
    before,
  );
});
