import assert from 'node:assert/strict';
import { secondsLeft } from '../../src/jobs/seconds-left.ts';
import { EvaluationStore } from '../../src/storage/evaluation-store.ts';
import { newSample, startRun } from '../support/evaluations.ts';
import { databaseTest } from '../support/test-database.ts';

databaseTest('what is left is told at the pace since the run was taken up last', async (_t, { empty }) => {
  const database = await empty();
  const store = new EvaluationStore(database);
  const id = await startRun(store, { samplesTotal: 10 });
  const left = async (): Promise<number | null> => {
    const run = await store.get(id);
    assert.ok(run);
    return secondsLeft(run, { done: run.samplesDone, atStart: run.samplesAtStart, total: run.samplesTotal });
  };
  const ago = async (seconds: number): Promise<void> => {
    await database.query('update gistql.evaluations set taken_up_at = now() - make_interval(secs => $1)', [seconds]);
  };
  const assertAbout = async (seconds: number): Promise<void> => {
    const told = await left();
    assert.ok(told !== null && Math.abs(told - seconds) < seconds / 4, `${told} s`);
  };
  assert.equal(await left(), null);
  for (const index of [0, 1]) await store.addSample(id, newSample(index));
  await ago(2000);
  // two in 2000 s, eight to go
  await assertAbout(8000);
  await store.begin(id);
  assert.equal(await left(), null, 'what came before it was taken up again does not count');
  for (const index of [2, 3, 4, 5]) await store.addSample(id, newSample(index));
  await ago(400);
  await assertAbout(400);
  await store.finish(id, {});
  assert.equal(await left(), null);
});
