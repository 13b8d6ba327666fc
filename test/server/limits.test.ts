import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  BuildPromptDocument,
  DetokenizeDocument,
  EmbedDocument,
  GenerateDocument,
  LoadModelDocument,
  ModelDocument,
  ModelsDocument,
  PromptTemplatesDocument,
  SummarizeDocument,
  SummaryStreamDocument,
  TokenizeDocument,
  UnloadModelDocument,
} from '../generated/operations.ts';
import { firstDialogue, secondDialogue } from '../support/dialogues.ts';
import { repositoryPath } from '../support/oracle.ts';
import { type Answer, startTestServer, type TestServer } from '../support/start-server.ts';

function assertError(answer: Answer<unknown>, code: string, about: { argument?: string; limit?: string } = {}): void {
  const [error] = answer.errors;
  assert.equal(error?.extensions.code, code, JSON.stringify(answer));
  assert.equal(error.extensions.argument, about.argument, JSON.stringify(error));
  assert.equal(error.extensions.limit, about.limit, JSON.stringify(error));
}

describe('limits and errors of the server', () => {
  let server: TestServer;
  const closing: (() => Promise<void>)[] = [];
  before(async () => {
    server = await startTestServer(
      { after: (close) => closing.push(close as () => Promise<void>) },
      {
        GISTQL_MODELS_DIR: repositoryPath('test/fixtures'),
        GISTQL_MAX_BODY_BYTES: '20000',
        GISTQL_MAX_ALIASES: '5',
        GISTQL_MAX_QUERY_DEPTH: '6',
        GISTQL_MAX_DOCUMENT_TOKENS: '1000',
        GISTQL_MAX_SUBSCRIPTIONS: '2',
        GISTQL_MAX_QUEUE: '3',
        GISTQL_REQUEST_TIMEOUT_MS: '60000',
      },
    );
  });
  after(async () => {
    for (const close of closing) await close();
  });

  const generate = (input: object) => server.ask(GenerateDocument, { input: { prompt: firstDialogue, ...input } });

  test('syntax, unknown fields and wrong variables are BAD_USER_INPUT', async () => {
    assertError(await server.post('{'), 'BAD_USER_INPUT');
    assertError(await server.post('{ nothing }'), 'BAD_USER_INPUT');
    const query = 'query ($id: ID!) { model(id: $id) { id } }';
    assertError(await server.post(query, {}), 'BAD_USER_INPUT');
  });

  test('arguments are honoured or refused', async () => {
    assertError(await generate({ decoding: { temperature: 2 } }), 'UNSUPPORTED_ARGUMENT', { argument: 'temperature' });
    assertError(await generate({ decoding: { topLogprobs: 21 } }), 'BAD_USER_INPUT', { argument: 'topLogprobs' });
    assertError(await generate({ decoding: { stop: [''] } }), 'BAD_USER_INPUT', { argument: 'stop' });
    assertError(await generate({ model: 'none' }), 'NOT_FOUND');
    assertError(await generate({ adapters: [{ id: 'none' }] }), 'NOT_FOUND', { argument: 'adapters' });
    assertError(await generate({ prompt: firstDialogue.repeat(40) }), 'INPUT_TOO_LONG', { argument: 'onOverflow' });
    const { errors } = await generate({ adapters: [], decoding: { maxNewTokens: 2 } });
    assert.deepEqual(errors, []);
  });

  test('an unknown template is NOT_FOUND', async () => {
    const answer = await server.ask(SummarizeDocument, { input: { text: 'x', template: 'none' } });
    assertError(answer, 'NOT_FOUND', { argument: 'template' });
  });

  test('a costly document is refused before anything runs', async () => {
    server.traces.length = 0;
    const tokens = await generate({ decoding: { maxNewTokens: 300, numBeams: 4 } });
    assertError(tokens, 'QUERY_TOO_COSTLY', { limit: 'GISTQL_MAX_DOCUMENT_TOKENS' });
    const aliases = Array.from({ length: 6 }, (_, index) => `a${index}: models { id }`).join(' ');
    assertError(await server.post(`{ ${aliases} }`), 'QUERY_TOO_COSTLY', { limit: 'GISTQL_MAX_ALIASES' });
    const deep = '{ __schema { types { fields { type { ofType { ofType { ofType { name } } } } } } } }';
    assertError(await server.post(deep), 'QUERY_TOO_COSTLY', { limit: 'GISTQL_MAX_QUERY_DEPTH' });
    assert.equal(server.traces.length, 0);
  });

  test('tokens are counted over aliases and fragments, with variables', async () => {
    const query = `mutation ($d: DecodingInput) { ...two }
      fragment two on Mutation {
        a: generate(input: { prompt: "x", decoding: $d }) { id }
        b: generate(input: { prompt: "y", decoding: $d }) { id }
      }`;
    const answer = await server.post(query, { d: { maxNewTokens: 501 } });
    assertError(answer, 'QUERY_TOO_COSTLY', { limit: 'GISTQL_MAX_DOCUMENT_TOKENS' });
  });

  test('a large body is refused', async () => {
    const answer = await server.post('{ models { id } }', { padding: 'x'.repeat(20_000) });
    assert.equal(answer.status, 413);
    assertError(answer, 'QUERY_TOO_COSTLY', { limit: 'GISTQL_MAX_BODY_BYTES' });
  });

  test('a full queue is OVERLOADED, says when to come back, and the others are answered', async () => {
    const asked = Array.from({ length: 5 }, () => generate({ decoding: { maxNewTokens: 60, minNewTokens: 60 } }));
    const answers = await Promise.all(asked);
    const refused = answers.filter(({ errors }) => errors.length > 0);
    assert.equal(refused.length, 2);
    for (const answer of refused) {
      assertError(answer, 'OVERLOADED', { limit: 'GISTQL_MAX_QUEUE' });
      assert.ok((answer.errors[0]?.extensions.retryAfterMs ?? 0) > 0);
    }
  });

  test('subscriptions on one connection are bounded', async () => {
    const connection = server.connect();
    const input = { text: secondDialogue, decoding: { maxNewTokens: 200, minNewTokens: 200 } };
    const streams = [0, 1, 2].map(() => connection.subscribe(SummaryStreamDocument, { input }));
    const [first, second, third] = await Promise.allSettled(streams.map((stream) => stream.next()));
    assert.deepEqual([first?.status, second?.status, third?.status], ['fulfilled', 'fulfilled', 'rejected']);
    assert.match(JSON.stringify(third), /GISTQL_MAX_SUBSCRIPTIONS/);
    for (const stream of streams) await stream.return?.();
    await connection.close();
  });

  test('errors of a subscription carry their codes', async () => {
    const connection = server.connect();
    const bad = connection.subscribe(SummaryStreamDocument, { input: { text: 'x', decoding: { seed: 1 } } });
    const codes: unknown[] = [];
    try {
      for await (const { errors } of bad) codes.push(...(errors ?? []).map(({ extensions }) => extensions?.code));
    } catch (errors) {
      codes.push(...(errors as { extensions: { code: string } }[]).map(({ extensions }) => extensions.code));
    }
    assert.deepEqual(codes, ['UNSUPPORTED_ARGUMENT']);
    await connection.close();
  });

  test('models are loaded, found, and unloaded by id', async () => {
    const { loadModel } = await server.data(LoadModelDocument, { input: { id: 'tiny', source: 'dir:t5-relu-tied' } });
    assert.deepEqual(loadModel, { id: 'tiny', isDefault: false, source: 'dir:t5-relu-tied' });
    const again = await server.ask(LoadModelDocument, { input: { id: 'tiny', source: 'dir:t5-relu-tied' } });
    assertError(again, 'CONFLICT');
    const { models } = await server.data(ModelsDocument, {});
    assert.deepEqual(
      models.map(({ id, isDefault }) => [id, isDefault]),
      [
        ['gist-mini', true],
        ['tiny', false],
      ],
    );
    const decoding = { maxNewTokens: 5 };
    const { generate: made } = await server.data(GenerateDocument, {
      input: { prompt: 't5 t9 t7', model: 'tiny', decoding },
    });
    assert.deepEqual(made.promptTokenIds, [5, 9, 7]);
    assert.equal((await server.data(UnloadModelDocument, { id: 'tiny' })).unloadModel, true);
    assert.equal((await server.data(ModelDocument, { id: 'tiny' })).model, null);
    assert.equal((await server.data(UnloadModelDocument, { id: 'tiny' })).unloadModel, false);
  });

  test('a source is a name, never a path', async () => {
    for (const source of ['dir:../models', 'dir:/etc', 'dir:a/b', 'dir:', 'dir:..', '/etc/passwd']) {
      assertError(await server.ask(LoadModelDocument, { input: { id: 'x', source } }), 'BAD_USER_INPUT', {
        argument: 'source',
      });
    }
    assertError(await server.ask(LoadModelDocument, { input: { id: 'x', source: 'dir:absent' } }), 'NOT_FOUND', {
      argument: 'source',
    });
  });

  test('tokenize, detokenize, embed, prompts', async () => {
    const text = 'Hello there, Tom 🙂.';
    const { tokenize } = await server.data(TokenizeDocument, { input: { text } });
    assert.equal(tokenize.tokenCount, tokenize.ids.length);
    assert.equal(tokenize.tokens.at(-1)?.special, true);
    assert.equal(tokenize.tokens.at(-1)?.start, null);
    const { detokenize } = await server.data(DetokenizeDocument, { input: { ids: tokenize.ids.slice(0, 3) } });
    assert.ok(text.startsWith(detokenize));
    assertError(await server.ask(DetokenizeDocument, { input: { ids: [99_999] } }), 'BAD_USER_INPUT', {
      argument: 'ids',
    });
    const { embed } = await server.data(EmbedDocument, { input: { texts: [text, 'short'], normalize: true } });
    for (const { vectors, dimension } of embed) {
      assert.equal(dimension, 192);
      assert.equal(vectors.length, 1);
      const length = Math.hypot(...(vectors[0] ?? []));
      assert.ok(Math.abs(length - 1) < 1e-5);
    }
    const { embed: rows } = await server.data(EmbedDocument, {
      input: { texts: [text], layer: 'INPUT', pooling: 'NONE' },
    });
    assert.equal(rows[0]?.vectors.length, tokenize.tokenCount);
    const { promptTemplates } = await server.data(PromptTemplatesDocument, {});
    assert.ok(promptTemplates.some(({ id }) => id === 'what-was-going-on'));
    const shots = [{ dialogue: 'A: Hi.', summary: 'A greets.' }];
    const { buildPrompt } = await server.data(BuildPromptDocument, {
      input: { dialogue: 'B: Bye.', template: 'what-was-going-on', shots },
    });
    assert.equal(
      buildPrompt.text,
      'Dialogue:\n\nA: Hi.\n\nWhat was going on?\nA greets.\n\n\nDialogue:\n\nB: Bye.\n\nWhat was going on?\n',
    );
    assert.equal(buildPrompt.shotCount, 1);
  });
});

test('a request that outlives its deadline is TIMEOUT and frees its rows', async (t) => {
  const server = await startTestServer(t, { GISTQL_REQUEST_TIMEOUT_MS: '1' });
  const decoding = { maxNewTokens: 500, minNewTokens: 500 };
  const answer = await server.ask(GenerateDocument, { input: { prompt: firstDialogue, decoding } });
  assertError(answer, 'TIMEOUT', { limit: 'GISTQL_REQUEST_TIMEOUT_MS' });
  await server.close();
  assert.ok(server.traces.length < 500, `${server.traces.length} steps`);
});

test('the server is ready only while its default model is in service', async (t) => {
  const server = await startTestServer(t);
  const ready = async () => (await fetch(`${server.url}/health/ready`)).status;
  assert.equal(await ready(), 200);
  await server.data(UnloadModelDocument, { id: 'gist-mini' });
  assert.equal(await ready(), 503);
  assert.equal((await fetch(`${server.url}/health/live`)).status, 200);
});
