/** Runs and their samples: nothing twice, nothing lost, numbered without gaps. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { EvaluationStore } from '../../src/storage/evaluation-store.ts';
import { storableJson, storableText } from '../../src/storage/tables.ts';
import { newEvaluation, newSample, noQueue, startRun } from '../support/evaluations.ts';
import { seededNumbers } from '../support/seeded-numbers.ts';
import { databaseTest } from '../support/test-database.ts';

const SEED = 41;

databaseTest(
  'a key makes one run, whoever asks first and however often; another request has a conflict',
  async (_t, { empty }) => {
    const store = new EvaluationStore(await empty());
    const queued: string[] = [];
    const enqueue = async (_: unknown, id: string): Promise<void> => void queued.push(id);
    const ask = (asked: unknown) => store.create(newEvaluation({ idempotencyKey: 'a key', asked }), enqueue);
    const creations = await Promise.all([
      ask({ dataset: 'everyday', limit: 3 }),
      ask({ limit: 3, dataset: 'everyday' }),
      ask({ dataset: 'everyday', limit: 3 }),
    ]);
    assert.deepEqual(creations.map(({ outcome }) => outcome).sort(), ['created', 'existing', 'existing']);
    assert.deepEqual(new Set(creations.map(({ run }) => run.id)).size, 1);
    assert.deepEqual(queued, [creations[0]?.run.id]);
    const other = await ask({ dataset: 'everyday', limit: 4 });
    assert.equal(other.outcome, 'conflict');
    assert.equal(other.run.id, queued[0]);
    assert.deepEqual(await store.findByKey('a key', { limit: 4 }), other);
    assert.equal((await store.findByKey('a key', { limit: 3, dataset: 'everyday' }))?.outcome, 'existing');
    assert.equal(await store.findByKey('another', {}), undefined);
    const keyless = await Promise.all([store.create(newEvaluation(), noQueue), store.create(newEvaluation(), noQueue)]);
    assert.notEqual(keyless[0].run.id, keyless[1].run.id);
    assert.equal(await store.count(), 3);
  },
);

databaseTest('a run that cannot be queued is not made', async (_t, { empty }) => {
  const store = new EvaluationStore(await empty());
  const failing = store.create(newEvaluation({ idempotencyKey: 'a key' }), () => Promise.reject(new Error('no queue')));
  await assert.rejects(failing, /no queue/);
  assert.equal(await store.count(), 0);
  assert.equal((await store.create(newEvaluation({ idempotencyKey: 'a key' }), noQueue)).outcome, 'created');
});

databaseTest('what is stored is what is read, to the last bit', async (_t, { empty }) => {
  const store = new EvaluationStore(await empty());
  const id = await startRun(store, { request: { b: [1, 'x'], a: null }, rescoredFrom: randomUUID() });
  const samples = [newSample(7, { text: 'naïve 🙂 \\u0000 "x"\n\t' }), newSample(3, { references: [] }), newSample(0)];
  for (const [position, sample] of samples.entries()) {
    assert.deepEqual(await store.addSample(id, sample), { sequence: position + 1, cancelRequested: false });
  }
  const numbered = samples.map((sample, position) => ({ ...sample, sequence: position + 1 }));
  assert.deepEqual((await store.samplesSince(id, 0, 10))?.samples, numbered);
  assert.deepEqual(await store.samples(id, 10), [numbered[2], numbered[1], numbered[0]]);
  assert.deepEqual(await store.samples(id, 1, 0), [numbered[1]]);
  assert.deepEqual(await store.doneIndexes(id), new Set([7, 3, 0]));
  const measured = numbered.map(({ index, sequence, outputs }) => ({
    index,
    sequence,
    scores: outputs.map(({ rouge }) => rouge),
    completionTokens: outputs.map(({ completionTokens }) => completionTokens),
    latenciesMs: outputs.map(({ latencyMs }) => latencyMs),
  }));
  assert.deepEqual(await store.scoresSince(id, 0), measured);
  assert.deepEqual(await store.scoresSince(id, 2), measured.slice(2));
  const run = await store.get(id);
  assert.deepEqual(run?.request, { a: null, b: [1, 'x'] });
  assert.equal(run?.samplesDone, 3);
  assert.ok(run?.createdAt instanceof Date && run.startedAt instanceof Date && run.finishedAt === null);
});

databaseTest(
  'an index is stored once, whoever else stores it at the same time; numbers have no gaps',
  async (_t, { empty, make, open, isEmbedded }) => {
    const databases = [await empty()];
    if (!isEmbedded) {
      const place = await make();
      databases.splice(0, 1, await open(place), await open(place), await open(place));
    }
    const stores = databases.map((database) => new EvaluationStore(database));
    const [first] = stores;
    assert.ok(first !== undefined);
    const id = await startRun(first, { samplesTotal: 30 });
    const random = seededNumbers(SEED);
    const order = () =>
      Array.from({ length: 30 }, (_, index) => ({ index, key: random() })).sort((a, b) => a.key - b.key);
    const added = await Promise.all(
      [...stores, ...stores].flatMap((store) => order().map(({ index }) => store.addSample(id, newSample(index)))),
    );
    const sequences = added.flatMap((one) => (one === undefined ? [] : [one.sequence]));
    assert.deepEqual(
      sequences.sort((a, b) => a - b),
      Array.from({ length: 30 }, (_, index) => index + 1),
    );
    assert.equal((await first.get(id))?.samplesDone, 30);
    const inOrder = Array.from({ length: 30 }, (_, index) => index);
    assert.deepEqual(
      (await first.samples(id, 100)).map(({ index }) => index),
      inOrder,
    );
    assert.deepEqual(
      (await first.samples(id, 25)).map(({ index }) => index),
      inOrder.slice(0, 25),
    );
    assert.deepEqual(
      (await first.scoresSince(id, 0)).map(({ sequence }) => sequence),
      inOrder.map((index) => index + 1),
    );
  },
);

databaseTest('samples are added to a run that runs, and the first end is the end', async (_t, { empty }) => {
  const store = new EvaluationStore(await empty());
  const { run: evaluation } = await store.create(newEvaluation(), noQueue);
  const { id } = evaluation;
  assert.equal(await store.addSample(id, newSample(0)), undefined);
  assert.equal((await store.begin(id))?.status, 'running');
  assert.equal((await store.addSample(id, newSample(0)))?.sequence, 1);
  const finished = await store.finish(id, { mean: 0.1 + 0.2 });
  assert.equal(finished?.status, 'succeeded');
  assert.deepEqual(finished?.summary, { mean: 0.1 + 0.2 });
  for (const late of [
    store.fail(id, 'late'),
    store.cancel(id, {}),
    store.finish(id, {}),
    store.begin(id),
    store.requestCancel(id),
    store.addSample(id, newSample(1)),
  ]) {
    assert.equal(await late, undefined);
  }
  assert.deepEqual(await store.get(id), finished);
});

databaseTest(
  'cancelling ends a run that waits at once, and tells one that runs with its next sample',
  async (_t, { empty }) => {
    const store = new EvaluationStore(await empty());
    const { run: evaluation } = await store.create(newEvaluation(), noQueue);
    const waiting = await store.requestCancel(evaluation.id);
    assert.equal(waiting?.status, 'cancelled');
    assert.ok(waiting?.finishedAt instanceof Date);
    assert.equal(await store.begin(evaluation.id), undefined);
    const id = await startRun(store);
    assert.equal((await store.addSample(id, newSample(0)))?.cancelRequested, false);
    assert.equal((await store.requestCancel(id))?.status, 'running');
    assert.equal((await store.addSample(id, newSample(1)))?.cancelRequested, true);
    assert.equal((await store.cancel(id, { mean: 1 }))?.status, 'cancelled');
  },
);

databaseTest('a run counts how often it was taken up without getting on', async (_t, { empty }) => {
  const store = new EvaluationStore(await empty());
  const id = await startRun(store);
  assert.equal((await store.begin(id))?.fruitlessStarts, 2);
  assert.equal((await store.begin(id))?.fruitlessStarts, 3);
  await store.addSample(id, newSample(0));
  assert.equal((await store.begin(id))?.fruitlessStarts, 1);
  assert.equal((await store.begin(id))?.fruitlessStarts, 2);
});

databaseTest('lists have the newest first, page by page, whatever is made meanwhile', async (_t, { empty }) => {
  const store = new EvaluationStore(await empty());
  const ids: string[] = [];
  for (let count = 0; count < 7; count++) ids.unshift((await store.create(newEvaluation(), noQueue)).run.id);
  const found: string[] = [];
  let before: number | undefined;
  for (;;) {
    const page = await store.list(3, before);
    found.push(...page.map(({ id }) => id));
    before = page.at(-1)?.ordinal;
    if (page.length < 3) break;
    await store.create(newEvaluation(), noQueue);
  }
  assert.deepEqual(found, ids);
});

databaseTest('ids that are none, and ids of nothing, are nothing', async (_t, { empty }) => {
  const store = new EvaluationStore(await empty());
  for (const id of ['', 'x', "'; drop table evaluations", '\0', randomUUID()]) {
    assert.equal(await store.get(id), undefined);
    assert.equal(await store.begin(id), undefined);
    assert.equal(await store.requestCancel(id), undefined);
    assert.equal(await store.samplesSince(id, 0, 10), undefined);
  }
});

databaseTest('characters that PostgreSQL cannot store become U+FFFD, wherever they stand', async (_t, { empty }) => {
  const store = new EvaluationStore(await empty());
  const bad = 'a\0b\uD800c\uDC00';
  const good = 'a\uFFFDb\uFFFDc\uFFFD';
  const id = await startRun(store, { request: { [bad]: [bad] }, signature: bad, idempotencyKey: bad });
  const [output] = newSample(0).outputs;
  assert.ok(output !== undefined);
  const sample = newSample(0, { sampleId: bad, text: bad, references: [bad], outputs: [{ ...output, summary: bad }] });
  assert.equal((await store.addSample(id, sample))?.sequence, 1);
  const [stored] = await store.samples(id, 1);
  const outputs = [{ ...output, summary: good }];
  assert.deepEqual(stored, { ...sample, sampleId: good, text: good, references: [good], outputs, sequence: 1 });
  assert.deepEqual((await store.get(id))?.request, { [good]: [good] });
  const again = await store.create(newEvaluation({ request: { [bad]: [bad] }, idempotencyKey: bad }), noQueue);
  assert.equal(again.outcome, 'existing');
  await store.fail(id, bad);
  assert.equal((await store.get(id))?.error, good);
});

test('whole characters outside the first plane stay as they are', () => {
  assert.equal(storableText('🙂\u{10FFFF}'), '🙂\u{10FFFF}');
  assert.equal(storableJson({ b: '🙂', a: { d: 1, c: [null, '\0'] } }), '{"a":{"c":[null,"\uFFFD"],"d":1},"b":"🙂"}');
});
