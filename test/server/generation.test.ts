import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  GenerateDocument,
  GenerationStreamDocument,
  SummarizeDocument,
  SummarizeTwiceDocument,
  SummaryStreamDocument,
} from '../generated/operations.ts';
import { firstDialogue, secondDialogue, thirdDialogue } from '../support/dialogues.ts';
import { startTestServer, type TestServer } from '../support/start-server.ts';

describe('generation over HTTP and WebSocket', () => {
  let server: TestServer;
  const closing: (() => Promise<void>)[] = [];
  before(async () => {
    server = await startTestServer({ after: (close) => closing.push(close as () => Promise<void>) });
  });
  after(async () => {
    for (const close of closing) await close();
  });

  test('summarize answers with every field of the contract', async () => {
    const { summarize } = await server.data(SummarizeDocument, {
      input: { text: firstDialogue, decoding: { numBeams: 3, numReturnSequences: 2, topLogprobs: 2 } },
    });
    const { generation } = summarize;
    assert.match(summarize.text, /#Person\d#/);
    assert.equal(summarize.alternatives.length, 1);
    assert.equal(summarize.truncated, false);
    assert.equal(generation.prompt, `Summarize the following conversation.\n\n${firstDialogue}\n\nSummary:`);
    assert.equal(generation.usage.promptTokens, generation.promptTokenIds.length);
    assert.equal(
      generation.usage.completionTokens,
      generation.sequences.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0),
    );
    assert.equal(generation.seed, null);
    for (const [index, sequence] of generation.sequences.entries()) {
      assert.equal(sequence.index, index);
      assert.deepEqual(
        sequence.tokens.map(({ id }) => id),
        sequence.tokenIds,
      );
      for (const { logprob, alternatives } of sequence.tokens) {
        assert.ok(logprob <= 0);
        assert.equal(alternatives.length, 2);
      }
    }
    assert.equal(generation.sequences[0]?.text, summarize.text);
  });

  test('a long dialogue is cut, the instruction and the cue stay; ERROR refuses it', async () => {
    const text = Array.from({ length: 60 }, () => secondDialogue).join('\n');
    const decoding = { maxNewTokens: 4 };
    const { summarize } = await server.data(SummarizeDocument, { input: { text, decoding } });
    assert.equal(summarize.truncated, true);
    assert.equal(summarize.generation.usage.promptTokens, 512);
    assert.ok(
      summarize.generation.prompt.startsWith('Summarize the following conversation.\n\n#Person1#: The printer'),
    );
    assert.ok(summarize.generation.prompt.endsWith('\n\nSummary:'));
    const { errors } = await server.ask(SummarizeDocument, { input: { text, decoding, onOverflow: 'ERROR' } });
    assert.equal(errors[0]?.extensions.code, 'INPUT_TOO_LONG');
  });

  test('aliases of one document share their steps', async () => {
    server.traces.length = 0;
    const decoding = { maxNewTokens: 12, minNewTokens: 12 };
    await server.data(SummarizeTwiceDocument, {
      first: { text: firstDialogue, decoding },
      second: { text: secondDialogue, decoding },
    });
    const shared = server.traces.filter(({ rows }) => rows.length === 2);
    assert.equal(shared.length, 12);
    assert.equal(server.traces.length, 12);
  });

  test('requests of several clients share steps', async () => {
    server.traces.length = 0;
    const decoding = { maxNewTokens: 40, minNewTokens: 40 };
    const first = server.data(SummarizeDocument, { input: { text: firstDialogue, decoding } });
    const second = server.data(SummarizeDocument, { input: { text: secondDialogue, decoding } });
    await Promise.all([first, second]);
    assert.ok(server.traces.some(({ rows }) => rows.length === 2));
  });

  for (const [name, decoding] of Object.entries({
    greedy: {},
    beams: { numBeams: 4, numReturnSequences: 3 },
    sampling: { doSample: true, seed: 5, numReturnSequences: 3 },
    'a stop string': { stop: ['at the'], noRepeatNgramSize: 0 },
  })) {
    test(`streamed deltas joined are the final text: ${name}`, async () => {
      const connection = server.connect();
      const joined = new Map<number, string>();
      let texts: readonly string[] = [];
      for await (const { data } of connection.subscribe(SummaryStreamDocument, {
        input: { text: firstDialogue, decoding },
      })) {
        const event = data?.summaryStream;
        if (event?.__typename === 'TokensAppended') {
          joined.set(event.sequenceIndex, (joined.get(event.sequenceIndex) ?? '') + event.text);
        } else if (event?.__typename === 'GenerationFinished') {
          texts = event.generation.sequences.map(({ text }) => text);
        }
      }
      await connection.close();
      assert.ok(texts.length > 0);
      assert.deepEqual(
        [...joined.keys()].sort(),
        texts.map((_, index) => index),
      );
      for (const [index, text] of texts.entries()) assert.equal(joined.get(index), text);
      // the same request at once and streamed: the same answer
      const { summarize } = await server.data(SummarizeDocument, { input: { text: firstDialogue, decoding } });
      assert.deepEqual(
        summarize.generation.sequences.map(({ text }) => text),
        texts,
      );
    });
  }

  test('a subscriber that leaves frees its rows at the next step', async () => {
    const connection = server.connect();
    const input = { prompt: thirdDialogue, decoding: { maxNewTokens: 400, minNewTokens: 400 } };
    const events = connection.subscribe(GenerationStreamDocument, { input });
    const { value } = await events.next();
    assert.equal(value.data.generationStream.__typename, 'TokensAppended');
    server.traces.length = 0;
    await events.return?.();
    await connection.close();
    // a later request runs alone: the first one's rows are gone, long before its 400 tokens
    await server.data(GenerateDocument, {
      input: { prompt: firstDialogue, decoding: { maxNewTokens: 3, minNewTokens: 3 } },
    });
    assert.equal(server.traces.at(-1)?.rows.length, 1);
    assert.ok(server.traces.length < 200, `${server.traces.length} steps`);
  });

  test('an HTTP request that is aborted frees its rows', async () => {
    const leaving = new AbortController();
    server.traces.length = 0;
    const query = 'mutation ($input: GenerateInput!) { generate(input: $input) { id } }';
    const input = { prompt: thirdDialogue, decoding: { maxNewTokens: 500, minNewTokens: 500 } };
    const running = server.post(query, { input }, leaving.signal);
    const failed = assert.rejects(running);
    while (server.traces.length === 0) await new Promise((resolve) => setImmediate(resolve));
    leaving.abort();
    await failed;
    await server.data(GenerateDocument, {
      input: { prompt: firstDialogue, decoding: { maxNewTokens: 3, minNewTokens: 3 } },
    });
    assert.equal(server.traces.at(-1)?.rows.length, 1);
    assert.ok(server.traces.length < 300, `${server.traces.length} steps`);
  });

  test('equal seeds give equal samples, whatever runs beside them', async () => {
    const input = { prompt: firstDialogue, decoding: { doSample: true, seed: 11, maxNewTokens: 20 } };
    const alone = await server.data(GenerateDocument, { input });
    const crowd = await Promise.all([
      server.data(GenerateDocument, { input: { prompt: secondDialogue, decoding: { numBeams: 4 } } }),
      server.data(GenerateDocument, { input }),
      server.data(GenerateDocument, { input: { ...input, decoding: { ...input.decoding, seed: 12 } } }),
    ]);
    const ids = (generated: typeof alone) => generated.generate.sequences.map(({ tokenIds }) => tokenIds);
    assert.deepEqual(ids(crowd[1]), ids(alone));
    assert.notDeepEqual(ids(crowd[2]), ids(alone));
    assert.equal(alone.generate.seed, 11);
  });
});
