/** What a training's job leaves to be tried again, and what it does not. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { Notifications } from '../../../src/jobs/notifications.ts';
import type { Database } from '../../../src/storage/database.ts';
import { TrainingStore } from '../../../src/storage/training-store.ts';
import { TrainingJob } from '../../../src/training/jobs/training-job.ts';
import type { TrainingRunner } from '../../../src/training/jobs/training-parts.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { databaseTest } from '../../support/test-database.ts';
import { temporaryFolder } from '../../support/tiny-model.ts';
import { beginTraining, newStep } from '../../support/trainings.ts';

/** A job over runs whose output nobody asks for. */
async function jobOf(t: TestContext, database: Database, runTraining: TrainingRunner) {
  const clock = new ManualClock();
  const errors: unknown[] = [];
  const onError = (error: unknown): void => void errors.push(error);
  const notifications = await Notifications.open(database, { clock, onError });
  t.after(() => notifications.close());
  const root = await temporaryFolder(t);
  const store = new TrainingStore(database);
  const folders = {
    models: { embedded: join(root, 'none'), models: join(root, 'models') },
    datasets: { embedded: join(root, 'none'), datasets: join(root, 'none') },
    adapters: join(root, 'adapters'),
    checkpoints: join(root, 'checkpoints'),
  };
  const unused = undefined as never;
  const services = { models: unused, adapters: unused, datasets: unused };
  const limits = { threadCount: 1, maxInputTokens: 64, maxRank: 8, checkpointMs: 0 };
  const job = new TrainingJob({ ...services, ...limits, clock, folders, runTraining, store, notifications, onError });
  return { job, store, clock, errors };
}

databaseTest('events that cannot be stored are no fault of the run: its job is tried again', async (t, { empty }) => {
  const { job, store } = await jobOf(t, await empty(), async (_plan, _places, { onProgress }) => {
    await onProgress([newStep(1), { ...newStep(2), step: 2.5 }]);
    return 'finished';
  });
  const id = await beginTraining(store);
  await assert.rejects(job.work({ id, signal: new AbortController().signal }), /invalid input syntax|Failed query/);
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
    const { job, store } = await jobOf(t, await empty(), async (_plan, _places, { onProgress, signal }) => {
      await onProgress([newStep(1)]);
      leaving.abort();
      assert.ok(signal.aborted);
      return await end();
    });
    const id = await beginTraining(store);
    await job.work({ id, signal: leaving.signal });
    const run = await store.get(id);
    assert.deepEqual([run?.status, run?.finishedAt, run?.error], ['running', null, null]);
  }
});

databaseTest('a run that another process has ended is left alone', async (t, { empty }) => {
  const database = await empty();
  const other = new TrainingStore(database);
  const ids: string[] = [];
  const { job, store } = await jobOf(t, database, async (_plan, _places, { onProgress, signal }) => {
    await other.fail(ids[0] ?? '', 'ended elsewhere');
    await onProgress([newStep(1)]);
    assert.ok(signal.aborted);
    return 'stopped';
  });
  ids.push(await beginTraining(store));
  await job.work({ id: ids[0] ?? '', signal: new AbortController().signal });
  const run = await store.get(ids[0] ?? '');
  assert.deepEqual([run?.status, run?.error, run?.step], ['failed', 'ended elsewhere', 0]);
});

databaseTest('a run that is taken up again and again and never comes on ends', async (t, { empty }) => {
  const { job, store } = await jobOf(t, await empty(), () => assert.fail('it is not to be trained'));
  const id = await beginTraining(store);
  for (let starts = 1; starts < 20; starts++) await store.begin(id);
  await job.work({ id, signal: new AbortController().signal });
  const run = await store.get(id);
  assert.equal(run?.status, 'failed');
  assert.match(run?.error ?? '', /^Expected steps to be done, but the run was taken up 20 times and none was/);
});
