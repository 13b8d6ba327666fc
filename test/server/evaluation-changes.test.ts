/** What one can do to a run: ask for it twice, end it, score it again, and change what it is made of while it goes on. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import {
  ActivateAdapterDocument,
  CancelEvaluationDocument,
  EvaluationDocument,
  EvaluationsDocument,
  LoadAdapterDocument,
  RescoreEvaluationDocument,
  type RescoreEvaluationInput,
  RougeDocument,
  StartEvaluationDocument,
  type StartEvaluationInput,
  UnloadAdapterDocument,
} from '../generated/operations.ts';
import { writeDataset } from '../support/dataset-files.ts';
import {
  comparable,
  decoding,
  eventsOf,
  follow,
  samplesOf,
  setUp,
  startRun,
  tableAtEnd,
  template,
  tinyRows,
  variants,
} from '../support/evaluation-server.ts';
import type { Answer } from '../support/start-server.ts';
import { writeTinyAdapter } from '../support/tiny-adapter.ts';

const LONG = 240;
const { server, place } = await setUp({ after });
await writeDataset(place.datasetsDir, 'long', { 'test.jsonl': tinyRows(LONG, 2) });

function assertError({ errors: [error] }: Answer<unknown>, code: string, argument?: string): void {
  assert.equal(error?.extensions.code, code, JSON.stringify(error));
  assert.equal(error.extensions.argument, argument);
}

async function rescore(input: RescoreEvaluationInput): Promise<string> {
  return (await server.data(RescoreEvaluationDocument, { input })).rescoreEvaluation.id;
}

/** Calls `change` when the first sample has been scored, and returns the run's last event. */
async function changedMeanwhile(id: string, change: () => Promise<unknown>) {
  const connection = server.connect();
  try {
    let changed: Promise<unknown> | undefined;
    for await (const event of eventsOf(connection, id)) {
      changed ??= change();
      if (event.__typename === 'EvaluationFinished') {
        await changed;
        return event.evaluation;
      }
    }
    return assert.fail('the run did not end');
  } finally {
    await connection.close();
  }
}

test('the same key gives the same run, also at once; with another request it is refused', async () => {
  const input = { dataset: 'tiny', variants, idempotencyKey: 'key', limit: 2 };
  const answers = await Promise.all([1, 2, 3].map(() => server.data(StartEvaluationDocument, { input })));
  const ids = new Set(answers.map(({ startEvaluation }) => startEvaluation.id));
  assert.equal(ids.size, 1);
  const [id = ''] = ids;
  await tableAtEnd(server, id);
  assert.equal((await server.data(StartEvaluationDocument, { input })).startEvaluation.status, 'SUCCEEDED');
  assertError(
    await server.ask(StartEvaluationDocument, { input: { ...input, limit: 3 } }),
    'CONFLICT',
    'idempotencyKey',
  );
  const again = { id, idempotencyKey: 'key' };
  assertError(await server.ask(RescoreEvaluationDocument, { input: again }), 'CONFLICT', 'idempotencyKey');
  const scored = { id, idempotencyKey: 'other key' };
  assert.equal(await rescore(scored), await rescore(scored));
  assert.equal((await server.data(EvaluationsDocument, {})).evaluations.totalCount, 2);
});

test('a run that goes on is cancelled within a sample, one that waits at once; what was scored stays', async () => {
  const running = await startRun(server, { dataset: 'long' });
  const waiting = await startRun(server, { dataset: 'long' });
  const last = await changedMeanwhile(running, async () => {
    const { cancelEvaluation } = await server.data(CancelEvaluationDocument, { id: waiting });
    assert.deepEqual([cancelEvaluation.status, cancelEvaluation.samplesDone], ['CANCELLED', 0]);
    assert.ok(cancelEvaluation.finishedAt !== null);
    await server.data(CancelEvaluationDocument, { id: running });
  });
  assert.equal(last.status, 'CANCELLED');
  assert.ok(last.samplesDone > 0 && last.samplesDone < LONG / 2, `${last.samplesDone} samples`);
  const stepCount = server.traces.length;
  const { variants: rows, samplesDone } = await tableAtEnd(server, running);
  assert.equal(samplesDone, last.samplesDone);
  for (const { samplesScored, metrics } of rows) assert.deepEqual([samplesScored, metrics.length], [samplesDone, 4]);
  assert.equal((await samplesOf(server, running, 100)).length, samplesDone);
  const events = await follow(server, waiting);
  assert.deepEqual(
    events.map(({ __typename }) => __typename),
    ['EvaluationFinished'],
  );
  assert.deepEqual((await tableAtEnd(server, waiting)).comparisons, []);
  assert.equal(server.traces.length, stepCount);
  // again is no harm, and others go on
  const { cancelEvaluation } = await server.data(CancelEvaluationDocument, { id: running });
  assert.equal(cancelEvaluation.status, 'CANCELLED');
  assertError(await server.ask(RescoreEvaluationDocument, { input: { id: running } }), 'CONFLICT', 'id');
  assert.equal((await tableAtEnd(server, await startRun(server, { limit: 1 }))).status, 'SUCCEEDED');
});

test('scored again, a run says what it would have said with those settings, and nothing is generated', async () => {
  const id = await startRun(server);
  await follow(server, id);
  const stepCount = server.traces.length;
  const again = await tableAtEnd(server, await rescore({ id, useStemmer: false, references: [1] }));
  assert.equal(server.traces.length, stepCount);
  assert.deepEqual([again.rescoredFrom, again.status], [id, 'SUCCEEDED']);
  const before = await samplesOf(server, id);
  for (const [place, { outputs, references, ...sample }] of (await samplesOf(server, again.id)).entries()) {
    const { outputs: were, references: all, ...same } = before[place] ?? assert.fail();
    assert.deepEqual(sample, same);
    assert.deepEqual(references, all.slice(1));
    for (const [variant, { rouge, ...output }] of outputs.entries()) {
      const { rouge: _, ...was } = were[variant] ?? assert.fail();
      assert.deepEqual(output, was);
      const input = { prediction: output.summary, references, useStemmer: false };
      assert.deepEqual(rouge, (await server.data(RougeDocument, { input })).rouge);
    }
  }
  const direct = await tableAtEnd(server, await startRun(server, { useStemmer: false, references: [1] }));
  assert.deepEqual(comparable(again), comparable(direct));
  assert.match(direct.signature, / flips=20000 /);
  assert.match((await tableAtEnd(server, await rescore({ id, signPatterns: 5000 }))).signature, / flips=5000 /);
  const twice = await tableAtEnd(server, await rescore({ id: again.id, useStemmer: true }));
  const alone = await tableAtEnd(server, await startRun(server, { references: [1] }));
  assert.deepEqual(comparable(twice), comparable(alone));
  assertError(
    await server.ask(RescoreEvaluationDocument, { input: { id: again.id, references: [0] } }),
    'BAD_USER_INPUT',
    'references',
  );
});

test('in whichever order references are named, each is the one of that index', async () => {
  const turned = await tableAtEnd(server, await startRun(server, { references: [1, 0] }));
  const straight = await tableAtEnd(server, await startRun(server));
  assert.deepEqual(comparable(turned), comparable(straight));
  for (const index of [0, 1]) {
    const alone = await tableAtEnd(server, await startRun(server, { references: [index] }));
    assert.deepEqual(
      comparable(await tableAtEnd(server, await rescore({ id: turned.id, references: [index] }))),
      comparable(alone),
    );
  }
  assert.deepEqual(
    comparable(await tableAtEnd(server, await rescore({ id: straight.id, references: [1, 0] }))),
    comparable(straight),
  );
});

test('every setting that moves a score changes the signature, labels do not', async () => {
  const [base = assert.fail()] = variants;
  const one = { dataset: 'tiny', limit: 2, variants: [base] };
  const signature = async (changes: Partial<StartEvaluationInput>): Promise<string> => {
    const { startEvaluation } = await server.data(StartEvaluationDocument, { input: { ...one, ...changes } });
    await server.data(CancelEvaluationDocument, { id: startEvaluation.id });
    return startEvaluation.signature;
  };
  const was = await signature({});
  assert.equal(await signature({ variants: [{ ...base, label: 'another' }] }), was);
  assert.equal(await signature({ variants: [{ ...base, model: 'tiny' }] }), was);
  assert.doesNotMatch(was, /\n/);
  const seen = new Map([[was, 'nothing']]);
  const check = (now: string, what: string): void => {
    assert.equal(seen.get(now), undefined, `${what} is ${seen.get(now)}: ${now}`);
    seen.set(now, what);
  };
  for (const change of [
    { limit: 3 },
    { sampleSeed: 1 },
    { useStemmer: false },
    { references: [0] },
    { signPatterns: 5000 },
    { dataset: 'long' },
    { variants: [base, { ...base, label: 'again' }] },
    ...[
      { template: 'briefly-summarize' },
      { decoding: { ...decoding, numBeams: 2 } },
      { decoding: { ...decoding, stop: ['a | b'] } },
      { shots: [{ dialogue: 't8 t11', summary: 't40' }] },
      { shots: [{ dialogue: 't8', summary: 't11 t40' }] },
      { adapters: [{ id: 'one' }] },
      { adapters: [{ id: 'one', weight: 0.5 }] },
      { adapters: [{ id: 'two' }] },
      { adapters: [{ id: 'one' }, { id: 'two' }] },
    ].map((odd) => ({ variants: [{ ...base, ...odd }] })),
  ]) {
    check(await signature(change), JSON.stringify(change));
  }
  const rows = tinyRows(12) as readonly Record<string, string>[];
  const changed = rows.map((row, index) => (index === 11 ? { ...row, dialogue: `${row.dialogue} t5` } : row));
  await writeDataset(place.datasetsDir, 'tiny', { 'test.jsonl': changed });
  check(await signature({}), 'other bytes of the dataset');
  await writeDataset(place.datasetsDir, 'tiny', { 'test.jsonl': rows });
  assert.equal(await signature({}), was);
});

test('a run keeps the adapter that was active when it began', async () => {
  const plain = [{ label: 'plain', template, decoding }];
  const activate = async (adapter: string | null): Promise<void> => {
    await server.data(ActivateAdapterDocument, { input: { model: 'tiny', adapter } });
  };
  const summaries = async (id: string): Promise<readonly unknown[]> =>
    (await samplesOf(server, id, 100)).map(({ outputs }) => outputs.map(({ summary }) => summary));
  const expected = async (adapters: readonly { readonly id: string }[]): Promise<readonly unknown[]> => {
    const id = await startRun(server, {
      dataset: 'long',
      variants: [{ label: 'plain', template, decoding, adapters: [...adapters] }],
    });
    await follow(server, id);
    return await summaries(id);
  };
  const without = await expected([]);
  const withOne = await expected([{ id: 'one' }]);
  assert.notDeepEqual(without, withOne);
  const began = await startRun(server, { dataset: 'long', variants: plain });
  assert.equal((await changedMeanwhile(began, () => activate('one'))).status, 'SUCCEEDED');
  assert.deepEqual(await summaries(began), without);
  const later = await startRun(server, { dataset: 'long', variants: plain });
  assert.equal((await changedMeanwhile(later, () => activate(null))).status, 'SUCCEEDED');
  assert.deepEqual(await summaries(later), withOne);
});

test('an adapter that becomes another under its id ends the run by name', async () => {
  await writeTinyAdapter(place.adaptersDir, 'other', { seed: 9 });
  const load = (source: string) =>
    server.data(LoadAdapterDocument, { input: { id: 'changing', model: 'tiny', source: `dir:${source}` } });
  await load('one');
  const id = await startRun(server, {
    dataset: 'long',
    variants: [{ label: 'mine', adapters: [{ id: 'changing' }], template, decoding }],
  });
  const { status, error, samplesDone } = await changedMeanwhile(id, async () => {
    await server.data(UnloadAdapterDocument, { id: 'changing' });
    await load('other');
  });
  assert.equal(status, 'FAILED');
  assert.match(error ?? '', /Expected .*(changing|"mine")/);
  assert.ok(samplesDone < LONG);
  const { evaluation } = await server.data(EvaluationDocument, { id });
  assert.deepEqual([evaluation?.status, evaluation?.etaSeconds], ['FAILED', null]);
});
