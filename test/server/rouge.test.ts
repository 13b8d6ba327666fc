import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { RougeDocument, type RougeQuery } from '../generated/operations.ts';
import { readJsonFile, repositoryPath } from '../support/oracle.ts';
import { startTestServer, type TestServer } from '../support/start-server.ts';

type Numbers = readonly number[];

interface MultiCase {
  readonly prediction: string;
  readonly references: string[];
  readonly stemmed: readonly Numbers[];
  readonly unstemmed: readonly Numbers[];
}

function numbersOf({ rouge1, rouge2, rougeL, rougeLsum }: RougeQuery['rouge']): readonly Numbers[] {
  return [rouge1, rouge2, rougeL, rougeLsum].map(({ precision, recall, fmeasure }) => [precision, recall, fmeasure]);
}

const { multi } = readJsonFile<{ readonly multi: readonly MultiCase[] }>(repositoryPath('test/fixtures/rouge.json'));

describe('Query.rouge', () => {
  let server: TestServer;
  const closing: (() => Promise<void>)[] = [];
  before(async () => {
    server = await startTestServer({ after: (close) => closing.push(close as () => Promise<void>) });
  });
  after(async () => {
    for (const close of closing) await close();
  });

  test('the scores survive the way in every bit, stemmed unless it is said otherwise', async () => {
    await Promise.all(
      multi.map(async ({ prediction, references, stemmed, unstemmed }) => {
        const byDefault = await server.data(RougeDocument, { input: { prediction, references } });
        assert.deepEqual(numbersOf(byDefault.rouge), stemmed);
        const input = { prediction, references, useStemmer: false };
        assert.deepEqual(numbersOf((await server.data(RougeDocument, { input })).rouge), unstemmed);
      }),
    );
  });

  test('a text that cannot be scored is named', async () => {
    const { rouge } = await server.data(RougeDocument, { input: { prediction: 'hello', references: ['你好'] } });
    assert.deepEqual(
      numbersOf(rouge).flat(),
      Array.from({ length: 12 }, () => 0),
    );
    assert.equal(rouge.warnings.length, 1);
  });

  test('no reference, and texts whose comparison would take minutes, are BAD_USER_INPUT', async () => {
    const long = 'a\n'.repeat(5000);
    for (const input of [
      { prediction: 'hello', references: [] },
      { prediction: long, references: [long] },
    ]) {
      const { errors } = await server.ask(RougeDocument, { input });
      assert.equal(errors[0]?.extensions.code, 'BAD_USER_INPUT');
      assert.equal(errors[0].extensions.argument, 'references');
    }
  });

  test('a long comparison does not keep others from being answered', async () => {
    const long = Array.from({ length: 20_000 }, (_, index) => `word${(index * 7919) % 1000}`).join(' ');
    let ended = false;
    const slow = server.data(RougeDocument, { input: { prediction: long, references: [long] } }).then(({ rouge }) => {
      ended = true;
      return rouge;
    });
    const health = await fetch(`${server.url}/health/live`);
    assert.equal(health.status, 200);
    assert.equal(ended, false);
    assert.equal((await slow).rougeLsum.fmeasure, 1);
  });
});
