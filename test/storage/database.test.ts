/** The two databases are one to whoever uses them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { getTableConfig } from 'drizzle-orm/pg-core';
import { readConfig } from '../../src/config.ts';
import { databaseErrorOf } from '../../src/runtime/database-errors.ts';
import { startWorker } from '../../src/runtime/start-worker.ts';
import { Database } from '../../src/storage/database.ts';
import { StorageError } from '../../src/storage/storage-error.ts';
import { evaluationSamples, evaluations, trainingEvents, trainings } from '../../src/storage/tables.ts';
import { databaseTest } from '../support/test-database.ts';
import { temporaryFolder } from '../support/tiny-model.ts';

databaseTest('the tables are those that drizzle is told of', async (_t, { empty }) => {
  const database = await empty();
  for (const table of [evaluations, evaluationSamples, trainings, trainingEvents]) {
    const { name, schema, columns } = getTableConfig(table);
    const { rows } = await database.query(
      `select column_name as name, is_nullable = 'NO' as "notNull", format_type(atttypid, null) as type
       from information_schema.columns
       join pg_attribute on attrelid = (table_schema || '.' || table_name)::regclass and attname = column_name
       where table_schema = $1 and table_name = $2 order by ordinal_position`,
      [schema, name],
    );
    const types: Readonly<Record<string, string>> = { bigserial: 'bigint' };
    const expected = columns.map((column) => {
      const type = column.getSQLType();
      return { name: column.name, notNull: column.notNull, type: types[type] ?? type };
    });
    const byName = (one: { name?: unknown }, other: { name?: unknown }) =>
      String(one.name) < String(other.name) ? -1 : 1;
    assert.deepEqual(rows.sort(byName), expected.sort(byName));
  }
});

databaseTest(
  'a transaction that fails leaves nothing, and one error does not harm the next query',
  async (_t, { empty }) => {
    const database = await empty();
    await database.query('create table numbers (value integer)');
    const failing = database.transaction(async (connection) => {
      await connection.query('insert into numbers values ($1)', [1]);
      await connection.query('insert into numbers values ($1)', ['one']);
    });
    await assert.rejects(failing, /invalid input syntax/);
    await assert.rejects(database.query('select nothing'), /does not exist/);
    await assert.rejects(database.query('select $1::text', ['\0']), /0x00/);
    await database.transaction((connection) => connection.query('insert into numbers values ($1)', [2]));
    assert.deepEqual((await database.query('select value from numbers')).rows, [{ value: 2 }]);
  },
);

databaseTest('what is notified is heard, when the transaction commits, also after an error', async (_t, { empty }) => {
  const database = await empty();
  const heard: string[] = [];
  let wake: () => void = () => {};
  const onPayload = (payload: string): void => {
    heard.push(payload);
    wake();
  };
  const stop = await database.listen({ onPayload, onLost: () => assert.fail('lost') });
  const three = new Promise<void>((resolve) => {
    wake = () => heard.length === 3 && resolve();
  });
  const taken = database.transaction(async (connection) => {
    await connection.query("select pg_notify('gistql', 'taken back')");
    throw new Error('back');
  });
  await assert.rejects(taken, /back/);
  await database.query("select pg_notify('gistql', 'one')");
  await assert.rejects(database.query('select nothing'));
  await database.query("select pg_notify('gistql', 'two')");
  await database.transaction((connection) => connection.query("select pg_notify('gistql', 'three')"));
  await three;
  assert.deepEqual(heard, ['one', 'two', 'three']);
  await stop();
});

databaseTest(
  'processes that start at once bring the tables up to date once',
  async (_t, { make, open, isEmbedded }) => {
    const place = await make();
    const databases = await Promise.all((isEmbedded ? [place] : [place, place, place]).map(open));
    for (const database of databases) {
      assert.deepEqual((await database.query('select number from gistql.migrations')).rows, [
        { number: 1 },
        { number: 2 },
        { number: 3 },
        { number: 4 },
      ]);
    }
  },
);

databaseTest('a database of a newer GistQL is refused', async (_t, { make, open }) => {
  const place = await make();
  const database = await open(place);
  await database.query('insert into gistql.migrations (number) values (99)');
  await database.close();
  await assert.rejects(
    open(place),
    (error: unknown) => error instanceof StorageError && /newer GistQL/.test(error.message),
  );
});

databaseTest('what was written is there when it is opened again', async (_t, { make, open }) => {
  const place = await make();
  const first = await open(place);
  await first.query('create table numbers (value integer)');
  await first.query('insert into numbers select generate_series(1, 1000)');
  await first.close();
  const second = await open(place);
  assert.deepEqual((await second.query('select count(*)::integer as count from numbers')).rows, [{ count: 1000 }]);
});

test('an embedded folder has one owner; the next one may have it when that has closed it', async (t) => {
  const folder = await temporaryFolder(t);
  const options = { folder, startWorker, onError: () => {} };
  const first = await Database.open(options);
  await assert.rejects(Database.open(options), /another one holds .*DATABASE_URL/);
  await first.close();
  await (await Database.open(options)).close();
});

test('an embedded database whose thread has ended is lost for good, for who waits for it and who comes later', async (t) => {
  const threads: Worker[] = [];
  const start: typeof startWorker = (...args) => {
    const thread = startWorker(...args);
    threads.push(thread);
    return thread;
  };
  const database = await Database.open({ folder: await temporaryFolder(t), startWorker: start, onError: () => {} });
  const waiting = database.query('select pg_sleep(0.001), count(*) from generate_series(1, 100000000)');
  const rejected = assert.rejects(waiting, isLost);
  await threads[0]?.terminate();
  await rejected;
  await assert.rejects(database.query('select 1'), isLost);
  await assert.rejects(database.orm.select().from(evaluations), isLost);
  await database.close();
});

function isLost(error: unknown): boolean {
  const lost = databaseErrorOf(error);
  assert.equal(lost?.code, 'DATABASE_UNAVAILABLE');
  assert.match(lost.message, /Start the server again/);
  assert.deepEqual(lost.details, {});
  return true;
}

test('a PostgreSQL that does not answer is told without its password', async (t) => {
  const folder = await temporaryFolder(t);
  const url = 'postgres://someone:s3cret@127.0.0.1:1/evaluations';
  await assert.rejects(Database.open({ url, folder, startWorker, onError: () => {} }), (error: Error) => {
    assert.match(error.message, /127\.0\.0\.1:1\/evaluations.*ECONNREFUSED.*DATABASE_URL/);
    assert.doesNotMatch(error.message, /s3cret/);
    return true;
  });
});

test('DATABASE_URL is a PostgreSQL, and what else it is stays untold', () => {
  const url = 'postgresql://someone:s3cret@example.org/evaluations';
  assert.equal(readConfig({ DATABASE_URL: url }).databaseUrl, url);
  assert.equal(readConfig({}).databaseUrl, undefined);
  for (const value of [
    'mysql://someone:s3cret@example.org/x',
    's3cret',
    'postgres://',
    'postgres://a:s3cret@b:port/c',
  ]) {
    assert.throws(
      () => readConfig({ DATABASE_URL: value }),
      (error: Error) => /DATABASE_URL/.test(error.message) && !/s3cret/.test(error.stack ?? ''),
    );
  }
});
