/** What is wrong with a run is said before it is queued. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, test } from 'node:test';
import {
  CancelEvaluationDocument,
  EvaluationDocument,
  EvaluationEventsDocument,
  EvaluationSamplesDocument,
  EvaluationsDocument,
  RescoreEvaluationDocument,
  StartEvaluationDocument,
  type StartEvaluationInput,
} from '../generated/operations.ts';
import { writeDataset } from '../support/dataset-files.ts';
import { setUp, startRun, tableAtEnd, template } from '../support/evaluation-server.ts';
import type { Answer } from '../support/start-server.ts';

const { server, place } = await setUp({ after });
const base = { label: 'base', adapters: [], template };

async function countOfRuns(): Promise<number> {
  return (await server.data(EvaluationsDocument, { first: 1 })).evaluations.totalCount;
}

function assertError({ errors: [error] }: Answer<unknown>, code: string, argument?: string): void {
  assert.equal(error?.extensions.code, code, JSON.stringify(error));
  assert.equal(error.extensions.argument, argument, JSON.stringify(error));
}

/** The code and argument of the error that following a run ends with. */
async function refusalOf(id: string, after: string | null): Promise<readonly unknown[]> {
  const connection = server.connect();
  try {
    for await (const { errors } of connection.subscribe(EvaluationEventsDocument, { id, after })) {
      if (errors !== undefined) return [errors[0]?.extensions?.code, errors[0]?.extensions?.argument];
    }
    return [];
  } catch (error) {
    const [first] = error as { extensions: { code: string; argument?: string } }[];
    return [first?.extensions.code, first?.extensions.argument];
  } finally {
    await connection.close();
  }
}

test('a run that cannot be is refused by name, and nothing is queued', async () => {
  await writeDataset(place.datasetsDir, 'broken', { 'test.jsonl': '{"dialogue":"t5"', 'empty.jsonl': '' });
  const long = 't5 '.repeat(200);
  const cases: readonly (readonly [Partial<StartEvaluationInput>, string, string?])[] = [
    [{ dataset: 'none' }, 'NOT_FOUND', 'dataset'],
    [{ dataset: '../tiny' }, 'BAD_USER_INPUT', 'dataset'],
    [{ dataset: 'broken' }, 'INVALID_DATASET'],
    [{ dataset: 'broken', split: 'empty' }, 'INVALID_DATASET'],
    [{ split: 'none' }, 'NOT_FOUND', 'split'],
    [{ limit: 0 }, 'BAD_USER_INPUT', 'limit'],
    [{ limit: -1 }, 'BAD_USER_INPUT', 'limit'],
    [{ sampleSeed: 1 }, 'BAD_USER_INPUT', 'sampleSeed'],
    [{ references: [] }, 'BAD_USER_INPUT', 'references'],
    [{ references: [2] }, 'BAD_USER_INPUT', 'references'],
    [{ references: [-1] }, 'BAD_USER_INPUT', 'references'],
    [{ references: [0, 0] }, 'BAD_USER_INPUT', 'references'],
    [{ variants: [] }, 'BAD_USER_INPUT', 'variants'],
    [{ variants: [base, base] }, 'BAD_USER_INPUT', 'label'],
    [{ variants: [{ label: ' ' }] }, 'BAD_USER_INPUT', 'label'],
    [{ signPatterns: 999 }, 'BAD_USER_INPUT', 'signPatterns'],
    [{ signPatterns: 10_000_001 }, 'BAD_USER_INPUT', 'signPatterns'],
    [{ idempotencyKey: ' ' }, 'BAD_USER_INPUT', 'idempotencyKey'],
    [{ idempotencyKey: 'k'.repeat(201) }, 'BAD_USER_INPUT', 'idempotencyKey'],
  ];
  for (const [change, code, argument] of cases) {
    const input = { dataset: 'tiny', variants: [base], ...change };
    assertError(await server.ask(StartEvaluationDocument, { input }), code, argument);
  }
  const variants: readonly (readonly [Partial<StartEvaluationInput['variants'][number]>, string, string?])[] = [
    [{ model: 'none' }, 'NOT_FOUND'],
    [{ adapters: [{ id: 'none' }] }, 'NOT_FOUND', 'adapters'],
    [{ adapters: [{ id: 'one' }, { id: 'one' }] }, 'BAD_USER_INPUT', 'adapters'],
    [{ template: 'none' }, 'NOT_FOUND', 'template'],
    [{ decoding: { temperature: 2 } }, 'UNSUPPORTED_ARGUMENT', 'temperature'],
    [{ decoding: { numBeams: 1000 } }, 'BAD_USER_INPUT', 'numBeams'],
    [{ shots: [{ dialogue: long, summary: long }] }, 'INPUT_TOO_LONG', 'shots'],
  ];
  for (const [change, code, argument] of variants) {
    const input = { dataset: 'tiny', variants: [base, { ...base, label: 'odd', ...change }] };
    const answer = await server.ask(StartEvaluationDocument, { input });
    assertError(answer, code, argument);
    assert.equal(answer.errors[0]?.extensions.variant, 'odd', JSON.stringify(answer));
  }
  assert.equal(await countOfRuns(), 0);
  assert.equal(server.traces.length, 0);
});

test('references that are too long for what may be written are refused before, wherever in the dataset they are', async () => {
  const rows = [
    { dialogue: 't5', summary: 't6' },
    { fname: 'long', dialogue: 't5', summary: 'a b\n'.repeat(150_000) },
  ];
  await writeDataset(place.datasetsDir, 'long', {
    'test.jsonl': rows.map((row, index) => ({ fname: `row ${index}`, ...row })),
  });
  const input = { dataset: 'long', variants: [base] };
  const answer = await server.ask(StartEvaluationDocument, { input });
  assertError(answer, 'BAD_USER_INPUT', 'references');
  assert.match(answer.errors[0]?.message ?? '', /^Sample "long": Expected texts that are compared in at most/);
  assert.equal(await countOfRuns(), 0);
  assert.equal((await tableAtEnd(server, await startRun(server, { ...input, limit: 1 }))).status, 'SUCCEEDED');
});

test('a run that is not there is NOT_FOUND, whatever is asked of it', async () => {
  for (const id of [randomUUID(), 'none', '']) {
    assert.equal((await server.data(EvaluationDocument, { id })).evaluation, null);
    assertError(await server.ask(CancelEvaluationDocument, { id }), 'NOT_FOUND', 'id');
    assertError(await server.ask(RescoreEvaluationDocument, { input: { id } }), 'NOT_FOUND', 'id');
    assert.deepEqual(await refusalOf(id, null), ['NOT_FOUND', 'id']);
  }
});

test('cursors and page sizes that cannot be are refused', async () => {
  const { id } = await tableAtEnd(server, await startRun(server, { limit: 3 }));
  for (const cursor of ['', 'x', '-1', '1.5', '4', '99999', '2:end', '4:end', '3:END', '1e3']) {
    assert.deepEqual(await refusalOf(id, cursor), ['BAD_USER_INPUT', 'after'], cursor);
  }
  for (const first of [0, -1, 501]) {
    assertError(await server.ask(EvaluationsDocument, { first }), 'BAD_USER_INPUT', 'first');
    assertError(await server.ask(EvaluationSamplesDocument, { id, first }), 'BAD_USER_INPUT', 'first');
  }
  assertError(await server.ask(EvaluationsDocument, { after: 'x' }), 'BAD_USER_INPUT', 'after');
  assertError(await server.ask(EvaluationSamplesDocument, { id, after: '-' }), 'BAD_USER_INPUT', 'after');
});
