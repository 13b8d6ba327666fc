/** Trainings and their events: nothing twice, numbered without gaps, and one output is made by one run. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { TrainingStore } from '../../src/storage/training-store.ts';
import { noQueue } from '../support/evaluations.ts';
import { databaseTest } from '../support/test-database.ts';
import { beginTraining, newStep, newTraining, newValidation } from '../support/trainings.ts';

const upTo = (count: number): readonly number[] => Array.from({ length: count }, (_, index) => index + 1);

databaseTest('events are stored once, whatever comes again, and read to the last bit', async (_t, { empty }) => {
  const store = new TrainingStore(await empty());
  const id = await beginTraining(store);
  const events = [newStep(1), newStep(2), newValidation(2), newStep(3)];
  assert.deepEqual(await store.addEvents(id, events.slice(0, 2)), { count: 2, cancelRequested: false });
  // as after a kill: from the checkpoint of step 1 on
  assert.deepEqual(await store.addEvents(id, events.slice(1)), { count: 2, cancelRequested: false });
  assert.deepEqual(await store.addEvents(id, events.slice(2)), { count: 0, cancelRequested: false });
  const stored = events.map((event, place) => ({ ...event, sequence: place + 1 }));
  assert.deepEqual((await store.eventsSince(id, 0, 10))?.events, stored);
  assert.deepEqual((await store.eventsSince(id, 1, 2))?.events, stored.slice(1, 3));
  assert.deepEqual((await store.eventsSince(id, 4, 2))?.events, []);
  assert.equal(await store.eventsSince(randomUUID(), 0, 10), undefined);
});

databaseTest(
  'a run says what its latest events say, and the least loss on the validation split',
  async (_t, { empty }) => {
    const store = new TrainingStore(await empty());
    const id = await beginTraining(store);
    const warnings = ['2 texts are cut.'];
    await store.prepare(id, {
      type: 'prepared',
      stepsTotal: 12,
      trainableParameters: 5,
      totalParameters: 50,
      warnings,
    });
    await store.addEvents(id, [newStep(1), newValidation(1, 0.5), newStep(2), newValidation(2, 0.25)]);
    await store.addEvents(id, [newStep(3), newValidation(3, 0.75)]);
    // told late by the process that was before: it changes nothing
    await store.addEvents(id, [newStep(2), newValidation(2, 0.25)]);
    const run = await store.get(id);
    const { loss, epoch, learningRate, tokensPerSecond } = newStep(3);
    assert.deepEqual(
      [run?.step, run?.loss, run?.epoch, run?.learningRate, run?.tokensPerSecond],
      [3, loss, epoch, learningRate, tokensPerSecond],
    );
    assert.deepEqual([run?.validationLoss, run?.bestValidationLoss, run?.eventCount], [0.75, 0.25, 6]);
    assert.deepEqual([run?.stepsTotal, run?.trainableParameters, run?.totalParameters], [12, 5, 50]);
    assert.deepEqual(run?.warnings, warnings);
  },
);

databaseTest(
  'of two that store the same steps at once each step is stored once, without gaps',
  async (_t, { empty, make, open, isEmbedded }) => {
    const databases = [await empty()];
    if (!isEmbedded) {
      const place = await make();
      databases.splice(0, 1, await open(place), await open(place));
    }
    const stores = databases.map((database) => new TrainingStore(database));
    const [first = assert.fail()] = stores;
    const id = await beginTraining(first);
    const steps = upTo(20).map(newStep);
    const added = await Promise.all(
      [...stores, ...stores].map(async (store) => {
        let count = 0;
        for (let from = 0; from < steps.length; from += 3) {
          count += (await store.addEvents(id, steps.slice(from, from + 3)))?.count ?? 0;
        }
        return count;
      }),
    );
    assert.equal(
      added.reduce((sum, count) => sum + count, 0),
      steps.length,
    );
    const { training, events } = (await first.eventsSince(id, 0, 100)) ?? assert.fail();
    assert.deepEqual(
      events.map(({ sequence }) => sequence),
      upTo(20),
    );
    assert.deepEqual(new Set(events.map(({ step }) => step)), new Set(upTo(20)));
    assert.equal(training.eventCount, 20);
  },
);

databaseTest('an output is made by one run that is not over; a resumed one counts again', async (_t, { empty }) => {
  const store = new TrainingStore(await empty());
  const create = () => store.createWithOutput(newTraining(), noQueue);
  const both = await Promise.all([create(), create()]);
  assert.deepEqual(both.map(({ outcome }) => outcome).sort(), ['created', 'taken']);
  const [created] = both.flatMap((one) => (one.outcome === 'created' ? [one.run] : []));
  const id = created?.id ?? assert.fail();
  assert.equal((await store.createWithOutput(newTraining({ outputId: 'other' }), noQueue)).outcome, 'created');
  await store.begin(id);
  assert.equal((await create()).outcome, 'taken');
  await store.fail(id, 'a fault');
  const next = await create();
  assert.ok(next.outcome === 'created');
  assert.equal(await store.resume(id, noQueue), 'taken');
  assert.equal((await store.get(id))?.status, 'failed');
  await store.requestCancel(next.run.id);
  const resumed = await store.resume(id, noQueue);
  assert.ok(resumed !== 'taken' && resumed !== undefined);
  assert.deepEqual([resumed.status, resumed.error, resumed.finishedAt], ['queued', null, null]);
});

databaseTest('a run is cancelled, resumed and ended as it should be', async (_t, { empty }) => {
  const store = new TrainingStore(await empty());
  const id = await beginTraining(store);
  await store.addEvents(id, [newStep(1)]);
  assert.equal(await store.resume(id, noQueue), undefined);
  assert.equal((await store.requestCancel(id))?.status, 'running');
  assert.deepEqual(await store.addEvents(id, [newStep(2)]), { count: 1, cancelRequested: true });
  assert.equal((await store.cancel(id))?.status, 'cancelled');
  assert.equal(await store.addEvents(id, [newStep(3)]), undefined);
  assert.equal(
    await store.prepare(id, {
      type: 'prepared',
      stepsTotal: 1,
      trainableParameters: 1,
      totalParameters: 1,
      warnings: [],
    }),
    undefined,
  );
  const queued: string[] = [];
  assert.ok((await store.resume(id, async () => void queued.push(id))) !== undefined);
  assert.deepEqual(queued, [id]);
  const begun = await store.begin(id);
  assert.deepEqual(
    [begun?.status, begun?.cancelRequested, begun?.stepAtStart, begun?.fruitlessStarts],
    ['running', false, 2, 1],
  );
  assert.equal((await store.begin(id))?.fruitlessStarts, 2);
  await store.addEvents(id, [newStep(3)]);
  assert.equal((await store.begin(id))?.fruitlessStarts, 1);
  assert.equal((await store.finish(id))?.status, 'succeeded');
  assert.equal(await store.resume(id, noQueue), undefined);
  await assert.rejects(
    store.resume(await failedRun(store), () => Promise.reject(new Error('no queue'))),
    /no queue/,
  );
});

async function failedRun(store: TrainingStore): Promise<string> {
  const id = await beginTraining(store, { outputId: 'failing' });
  await store.fail(id, 'a fault');
  return id;
}
