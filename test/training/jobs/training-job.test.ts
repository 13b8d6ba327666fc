/** What a training's job leaves to be tried again, or to other processes, and what it does not. */
import assert from 'node:assert/strict';
import { mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { Notifications } from '../../../src/jobs/notifications.ts';
import { DatasetDirectory } from '../../../src/runtime/datasets/dataset-directory.ts';
import type { ModelDirectory } from '../../../src/runtime/models/served-model.ts';
import type { Database } from '../../../src/storage/database.ts';
import { TrainingStore } from '../../../src/storage/training-store.ts';
import { TrainingJob } from '../../../src/training/jobs/training-job.ts';
import type { TrainingRunner } from '../../../src/training/jobs/training-parts.ts';
import { noQueue } from '../../support/evaluations.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { databaseTest } from '../../support/test-database.ts';
import { tinyTraining } from '../../support/tiny-training.ts';
import { beginTraining, newStep } from '../../support/trainings.ts';

const DAY_AND_MORE = "now() - interval '25 hours'";

/** A job over runs whose output is in service as soon as it is said to be made. `isShared`: with other processes. */
async function jobOf(t: TestContext, database: Database, runTraining: TrainingRunner, isShared = false) {
  const clock = new ManualClock();
  const onError = (): void => {};
  const notifications = await Notifications.open(database, { clock, onError });
  t.after(() => notifications.close());
  const { plan, places } = await tinyTraining(t, { full: true });
  const store = new TrainingStore(database);
  const folders = {
    models: places.directories,
    datasets: places.datasets,
    adapters: places.output,
    checkpoints: places.checkpoints,
  };
  const services = {
    models: { find: (id: string) => ({ id, source: `dir:${id}` }) } as unknown as ModelDirectory,
    adapters: undefined as never,
    datasets: new DatasetDirectory(places.datasets),
  };
  const limits = { threadCount: 1, maxInputTokens: 64, maxRank: 8, checkpointMs: 0 };
  const watching = { store, notifications, isShared, onError };
  const job = new TrainingJob({ ...services, ...limits, ...watching, clock, folders, runTraining });
  return { job, store, folders, begin: () => beginTraining(store, { request: plan }) };
}

type TestJob = Awaited<ReturnType<typeof jobOf>>;

const DATASET = 'words';

/** Folders and files without which the tiny plan cannot be carried out, and what is said then. */
function needsOf({ folders }: TestJob): readonly (readonly [path: string, message: RegExp])[] {
  const dataset = join(folders.datasets.datasets, DATASET);
  return [
    [join(folders.models.models, 'tiny'), /Expected the name of an existing model folder \(.*\), tiny came/],
    [dataset, /Expected dataset to be one of .*; "words" came/],
    [join(dataset, 'validation.jsonl'), /Expected split to be one of words's \(train\), "validation" came/],
  ];
}

async function without(path: string, work: () => Promise<void>): Promise<void> {
  await rename(path, `${path}.away`);
  try {
    await work();
  } finally {
    await rename(`${path}.away`, path);
  }
}

const working = (): AbortSignal => new AbortController().signal;

databaseTest('events that cannot be stored are no fault of the run: its job is tried again', async (t, { empty }) => {
  const { job, store, begin } = await jobOf(t, await empty(), async (_plan, _places, { onProgress }) => {
    await onProgress([newStep(1), { ...newStep(2), step: 2.5 }]);
    return 'finished';
  });
  const id = await begin();
  await assert.rejects(job.work({ id, signal: working() }), /invalid input syntax|Failed query/);
  const run = await store.get(id);
  assert.deepEqual([run?.status, run?.step, run?.error], ['running', 0, null]);
});

databaseTest('a run that is left stays as it is, whatever its trainer says then', async (t, { empty }) => {
  const leaving = new AbortController();
  const ends: (() => Promise<'stopped'>)[] = [
    async () => 'stopped',
    async () => Promise.reject(new Error('it was ended')),
  ];
  for (const end of ends) {
    const { job, store, begin } = await jobOf(t, await empty(), async (_plan, _places, { onProgress, signal }) => {
      await onProgress([newStep(1)]);
      leaving.abort();
      assert.ok(signal.aborted);
      return await end();
    });
    const id = await begin();
    await job.work({ id, signal: leaving.signal });
    const run = await store.get(id);
    assert.deepEqual([run?.status, run?.finishedAt, run?.error], ['running', null, null]);
  }
});

databaseTest('a run that another process has ended is left alone', async (t, { empty }) => {
  const database = await empty();
  const other = new TrainingStore(database);
  const ids: string[] = [];
  const { job, store, begin } = await jobOf(t, database, async (_plan, _places, { onProgress, signal }) => {
    await other.fail(ids[0] ?? '', 'ended elsewhere');
    await onProgress([newStep(1)]);
    assert.ok(signal.aborted);
    return 'stopped';
  });
  ids.push(await begin());
  await job.work({ id: ids[0] ?? '', signal: working() });
  const run = await store.get(ids[0] ?? '');
  assert.deepEqual([run?.status, run?.error, run?.step], ['failed', 'ended elsewhere', 0]);
});

databaseTest('a run that is taken up again and again and never comes on ends', async (t, { empty }) => {
  const { job, store, begin } = await jobOf(t, await empty(), () => assert.fail('it is not to be trained'));
  const id = await begin();
  for (let starts = 1; starts < 20; starts++) await store.begin(id);
  await job.work({ id, signal: working() });
  const run = await store.get(id);
  assert.equal(run?.status, 'failed');
  assert.match(run?.error ?? '', /^Expected steps to be done, but the run was taken up 20 times and none was/);
});

databaseTest(
  'a run waits for a process that has its model and its dataset: another trains it',
  async (t, { empty }) => {
    let trained = 0;
    const run: TrainingRunner = async (_plan, _places, { onProgress }) => {
      trained++;
      await onProgress([newStep(1)]);
      return 'finished';
    };
    const one = await jobOf(t, await empty(), run, true);
    const { job, store, begin } = one;
    for (const [path, message] of needsOf(one)) {
      const id = await begin();
      const before = trained;
      await without(path, async () => {
        // it may be taken up as often as it likes
        for (let starts = 0; starts < 25; starts++) {
          await assert.rejects(job.work({ id, signal: working() }), (error: Error) => {
            assert.match(error.message, /^This process leaves training .* to others\. /);
            assert.match(error.message, message);
            return true;
          });
        }
        const left = await store.get(id);
        assert.deepEqual([left?.status, left?.error, left?.finishedAt], ['queued', null, null]);
      });
      assert.equal(trained, before);
      await job.work({ id, signal: working() });
      const ended = await store.get(id);
      assert.deepEqual([ended?.status, ended?.error, trained], ['succeeded', null, before + 1]);
    }
  },
);

databaseTest(
  'a run that none comes on with for a day fails, and waits a day again when it is resumed',
  async (t, { empty }) => {
    const database = await empty();
    const one = await jobOf(t, database, () => assert.fail('it is not to be trained'), true);
    const { job, store, begin } = one;
    const [path, message] = needsOf(one)[0] ?? assert.fail();
    const work = (id: string) => job.work({ id, signal: working() });
    const age = (column: string) => database.query(`update gistql.trainings set ${column} = ${DAY_AND_MORE}`);
    await without(path, async () => {
      const id = await begin();
      await age('created_at');
      await assert.rejects(work(id), /leaves training/);
      await age('left_at');
      // another process had it meanwhile, which has ended
      await store.begin(id);
      await store.addEvents(id, [newStep(1)]);
      await assert.rejects(work(id), /leaves training/);
      await age('left_at');
      await work(id);
      const failed = await store.get(id);
      assert.equal(failed?.status, 'failed');
      assert.match(failed.error ?? '', message);
      await store.resume(id, noQueue);
      await assert.rejects(work(id), /leaves training/);
    });
  },
);

databaseTest('where no other process can have what a run needs it fails at once', async (t, { empty }) => {
  const one = await jobOf(t, await empty(), () => assert.fail('it is not to be trained'));
  for (const [path, message] of needsOf(one)) {
    const id = await one.begin();
    await without(path, () => one.job.work({ id, signal: working() }));
    const run = await one.store.get(id);
    assert.equal(run?.status, 'failed');
    assert.match(run.error ?? '', message);
  }
});

databaseTest('a run whose output is made needs no dataset any more', async (t, { empty }) => {
  const one = await jobOf(t, await empty(), async () => 'finished', true);
  const { job, store, folders, begin } = one;
  const id = await begin();
  await mkdir(join(folders.models.models, 'made'));
  await without(join(folders.datasets.datasets, DATASET), () => job.work({ id, signal: working() }));
  assert.equal((await store.get(id))?.status, 'succeeded');
});

databaseTest('a run that is to be cancelled is, also where it could not be trained', async (t, { empty }) => {
  const one = await jobOf(t, await empty(), () => assert.fail('it is not to be trained'), true);
  const { job, store, begin } = one;
  const id = await begin();
  await store.requestCancel(id);
  const [path] = needsOf(one)[0] ?? assert.fail();
  await without(path, () => job.work({ id, signal: working() }));
  assert.equal((await store.get(id))?.status, 'cancelled');
});
