/** Whose fault an error is: the document's, the database's, or the server's, which is masked. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildSchema, execute, type GraphQLFormattedError, parse, validate } from 'graphql';
import { pino } from 'pino';
import { formatError } from '../../src/resolvers/format-error.ts';
import { RuntimeError } from '../../src/runtime/errors.ts';

const schema = buildSchema(`
  enum Color { RED GREEN }
  interface Shape { name: String }
  type Square implements Shape { name: String }
  type Circle implements Shape { name: String }
  type Query {
    count(least: Int): Int
    name: String!
    color: Color
    colors: [Color]
    shape: Shape
    square: Square
  }
`);

interface Formatted {
  readonly error: GraphQLFormattedError;
  /** Lines of the log: level and message. */
  readonly log: readonly string[];
}

/** The one error of a query whose field gives `value`, or throws it where it is an Error. */
async function errorOf(
  query: string,
  value: unknown = null,
  variables: Readonly<Record<string, unknown>> = {},
): Promise<Formatted> {
  const log: string[] = [];
  const logger = pino({ level: 'debug', base: null }, { write: (line) => log.push(line) });
  const document = parse(query);
  const resolve = (): unknown => {
    if (value instanceof Error) throw value;
    return value;
  };
  const rootValue = { count: resolve, name: resolve, color: resolve, colors: resolve, shape: resolve, square: resolve };
  const invalid = validate(schema, document);
  const { errors = [] } =
    invalid.length > 0
      ? { errors: invalid }
      : await execute({ schema, document, rootValue, variableValues: variables });
  assert.equal(errors.length, 1);
  const lines = log;
  const error = formatError(errors[0], 'request 1', logger);
  return { error, log: lines.map((line) => JSON.parse(line)).map(({ level, msg }) => `${level} ${msg}`) };
}

test('what a document says wrong is its own fault, in the words of GraphQL', async () => {
  const documents: readonly [query: string, variables: Readonly<Record<string, unknown>>, words: RegExp][] = [
    ['{ size }', {}, /Cannot query field "size"/],
    ['{ count(least: "one") }', {}, /Int cannot represent non-integer value: "one"/],
    ['query ($least: Int) { count(least: $least) }', { least: 'one' }, /Int cannot represent non-integer value: "one"/],
    ['query ($least: Int!) { count(least: $least) }', {}, /required type "Int!" was not provided/],
  ];
  for (const [query, variables, words] of documents) {
    const { error, log } = await errorOf(query, 1, variables);
    assert.equal(error.extensions?.code, 'BAD_USER_INPUT', query);
    assert.match(error.message, words);
    assert.deepEqual(log, []);
  }
});

test("a value that the schema's type cannot hold is the server's fault: masked, and logged", async () => {
  const values: readonly [query: string, value: unknown][] = [
    ['{ count }', 1.5],
    ['{ count }', 2 ** 40],
    ['{ count }', 'one'],
    ['{ name }', null],
    ['{ name }', {}],
    ['{ color }', 'BLUE'],
    ['{ colors }', ['RED', 'BLUE']],
    ['{ colors }', 'RED'],
    ['{ shape { name } }', { name: 'a shape of no type' }],
    ['{ shape { name } }', { __typename: 'Triangle' }],
  ];
  for (const [query, value] of values) {
    const { error, log } = await errorOf(query, value);
    assert.equal(error.extensions?.code, 'INTERNAL_SERVER_ERROR', `${query} ${JSON.stringify(value)}`);
    assert.match(error.message, /request 1/);
    assert.ok(error.path !== undefined);
    assert.deepEqual(log, ['50 request failed']);
  }
});

test('a lost database is said to be so, however its error is wrapped, and where it may come back after how long', async () => {
  const withCode = (message: string, code: string): Error => Object.assign(new Error(message), { code });
  const losses: readonly Error[] = [
    withCode('terminating connection due to administrator command', '57P01'),
    withCode('the database system is starting up', '57P03'),
    Object.assign(new Error('database "runs" does not exist'), { code: '3D000', severity: 'FATAL' }),
    withCode('sorry, too many clients already', '53300'),
    withCode('read ECONNRESET', 'ECONNRESET'),
    withCode('connect ECONNREFUSED', 'ECONNREFUSED'),
    new AggregateError([withCode('connect ECONNREFUSED', 'ECONNREFUSED')]),
    new Error('Connection terminated unexpectedly'),
    new Error('Cannot use a pool after calling end on the pool'),
    new Error('Client has encountered a connection error and is not queryable'),
  ];
  for (const loss of losses) {
    for (const thrown of [loss, new Error('Failed query: select 1', { cause: loss })]) {
      const { error, log } = await errorOf('{ count }', thrown);
      const { code, retryAfterMs } = error.extensions ?? {};
      assert.deepEqual({ code, retryAfterMs }, { code: 'DATABASE_UNAVAILABLE', retryAfterMs: 1000 }, loss.message);
      assert.match(error.message, /Send it again/);
      assert.doesNotMatch(error.message, /select 1/);
      assert.deepEqual(log, ['40 database unavailable']);
    }
  }
});

test('an error of the database that answers, and any other, is masked', async () => {
  const errors: readonly Error[] = [
    Object.assign(new Error('duplicate key'), { code: '23505', severity: 'ERROR' }),
    Object.assign(new Error('no such file'), { code: 'ENOENT' }),
    new RuntimeError('INTERNAL_SERVER_ERROR', 'secret'),
    new Error('secret'),
  ];
  for (const thrown of errors) {
    const { error, log } = await errorOf('{ count }', thrown);
    assert.equal(error.extensions?.code, 'INTERNAL_SERVER_ERROR');
    assert.doesNotMatch(error.message, /secret|duplicate|file/);
    assert.deepEqual(log, ['50 request failed']);
  }
});
