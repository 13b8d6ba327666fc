/** The text layer over an engine that says what the test tells it to. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DecodingOptions } from '../../src/runtime/decoding/sampling-params.ts';
import { EngineTextGenerator } from '../../src/runtime/engine-text-generator.ts';
import { RuntimeError } from '../../src/runtime/errors.ts';
import type { TextGenerationEvent, TextRequest } from '../../src/runtime/text-generation.ts';
import { withoutAdapters } from '../support/scripted-adapters.ts';
import { directoryOf, gistMini, type Script, ScriptedEngine } from '../support/scripted-engine.ts';

const FIRST = 'They meet at the old café 😀 at six.';
const SECOND = 'Six it is.';

/** The ids of texts, end tokens included. */
async function idsOf(...texts: readonly string[]): Promise<readonly (readonly number[])[]> {
  const { tokenizer } = await gistMini();
  return Promise.all(texts.map((text) => tokenizer.encode(text)));
}

async function setUp(
  texts: readonly string[] = [FIRST],
  changes: { readonly maxInputTokens?: number } & Pick<Script, 'failure' | 'waitsAfter'> = {},
): Promise<{ engine: ScriptedEngine; generator: EngineTextGenerator; ids: readonly (readonly number[])[] }> {
  const { maxInputTokens, ...script } = changes;
  const ids = await idsOf(...texts);
  const engine = new ScriptedEngine({ sequences: ids, ...script });
  let count = 0;
  const models = await directoryOf(engine, maxInputTokens === undefined ? {} : { maxInputTokens });
  const generator = new EngineTextGenerator(models, await withoutAdapters(models), {
    drawSeed: () => 42,
    createId: () => `generation-${++count}`,
  });
  return { engine, generator, ids };
}

function ask(prompt: string, decoding: DecodingOptions = {}): TextRequest {
  return { prompt, decoding, onOverflow: 'error' };
}

const threeSequences: DecodingOptions = { doSample: true, numReturnSequences: 3 };

interface Heard {
  readonly texts: readonly string[];
  readonly tokenIds: readonly (readonly number[])[];
  readonly finished: Extract<TextGenerationEvent, { type: 'finished' }> | undefined;
  readonly deltaCount: number;
}

async function listen(events: AsyncIterable<TextGenerationEvent>, whenIdle = async () => {}): Promise<Heard> {
  const texts: string[] = [];
  const tokenIds: number[][] = [];
  let deltaCount = 0;
  let finished: Heard['finished'];
  for await (const event of events) {
    if (event.type === 'finished') {
      assert.equal(finished, undefined);
      finished = event;
      continue;
    }
    assert.equal(finished, undefined, 'nothing follows the finished event');
    deltaCount++;
    texts[event.sequenceIndex] = (texts[event.sequenceIndex] ?? '') + event.text;
    tokenIds[event.sequenceIndex] = [...(tokenIds[event.sequenceIndex] ?? []), ...event.tokenIds];
    await whenIdle();
  }
  return { texts, tokenIds, finished, deltaCount };
}

test('an answer has the texts, ids, usage, timing and seed of its sequences', async () => {
  const { engine, generator, ids } = await setUp([FIRST, SECOND]);
  const prompt = 'A question.';
  const generation = await generator.generate(ask(prompt, { doSample: true, numReturnSequences: 2 }));
  const [promptIds = []] = await idsOf(prompt);
  const { tokenizer } = await gistMini();
  assert.equal(generation.id, 'generation-1');
  assert.deepEqual(engine.requests[0]?.promptTokenIds, promptIds);
  assert.deepEqual(generation.promptTokenIds, promptIds);
  assert.equal(promptIds.at(-1), 1, 'the end token is there');
  assert.equal(generation.prompt, prompt);
  assert.equal(generation.truncated, false);
  assert.deepEqual(
    generation.sequences.map(({ tokenIds }) => tokenIds),
    ids,
  );
  for (const { text, tokenIds, tokens } of generation.sequences) {
    assert.equal(text, await tokenizer.decode(tokenIds));
    assert.equal(
      tokens
        .map((token) => token.text)
        .join('')
        .trimStart(),
      text,
    );
    assert.equal(tokens.at(-1)?.text, '', 'the end token adds no text');
    assert.deepEqual(tokens[0]?.alternatives[0]?.text, tokens[0]?.text);
  }
  const completionTokens = ids.flat().length;
  const promptTokens = promptIds.length;
  assert.deepEqual(generation.usage, { promptTokens, completionTokens, totalTokens: promptTokens + completionTokens });
  assert.equal(generation.timing.tokensPerSecond, completionTokens / 0.005);
  assert.equal(generation.seed, 42);
});

test('a seed is drawn for sampling that names none, and for nothing else', async () => {
  const { engine, generator } = await setUp();
  const seeds = [];
  for (const decoding of [{}, { doSample: true }, { doSample: true, seed: 7 }]) {
    seeds.push((await generator.generate(ask('x', decoding))).seed);
  }
  assert.deepEqual(seeds, [null, 42, 7]);
  assert.deepEqual(
    engine.requests.map(({ params }) => params.seed),
    [0, 42, 7],
  );
});

test('an empty prompt is its end token', async () => {
  const { generator } = await setUp();
  assert.deepEqual((await generator.generate(ask(''))).promptTokenIds, [1]);
});

test('a prompt that is too long is refused with both counts', async () => {
  const { engine, generator } = await setUp([FIRST], { maxInputTokens: 10 });
  const prompt = 'cat '.repeat(100);
  const [ids = []] = await idsOf(prompt);
  await assert.rejects(generator.generate(ask(prompt)), (error: RuntimeError) => {
    assert.equal(error.code, 'INPUT_TOO_LONG');
    assert.match(error.message, new RegExp(`\\b10\\b.*\\b${ids.length}\\b`));
    return true;
  });
  assert.equal(engine.requests.length, 0);
});

test('a prompt that may be cut keeps its first tokens and its end token', async () => {
  const { engine, generator } = await setUp([FIRST], { maxInputTokens: 10 });
  const prompt = '😀 They meet at the old cafe in the evening and they talk until late.';
  const generation = await generator.generate({ prompt, onOverflow: 'truncate' });
  const [all = []] = await idsOf(prompt);
  assert.deepEqual(generation.promptTokenIds, [...all.slice(0, 9), 1]);
  assert.deepEqual(engine.requests[0]?.promptTokenIds, generation.promptTokenIds);
  assert.equal(generation.truncated, true);
  assert.ok(prompt.startsWith(generation.prompt) && generation.prompt.length < prompt.length);
  assert.equal(generation.usage.promptTokens, 10);
});

for (const [name, decoding, argument] of [
  ['an empty stop string', { stop: ['a', ''] }, 'stop'],
  ['a stop string too many', { stop: Array.from({ length: 17 }, () => 'a') }, 'stop'],
  ['a stop string that is too long', { stop: ['a'.repeat(257)] }, 'stop'],
  ['an empty bad word', { badWords: [''] }, 'badWords'],
  ['a bad word without tokens', { badWords: ['  '] }, 'badWords'],
] as const) {
  test(`${name} is refused by name`, async () => {
    const { engine, generator } = await setUp();
    await assert.rejects(
      generator.generate(ask('x', decoding)),
      (error: RuntimeError) => error.code === 'BAD_USER_INPUT' && error.details.argument === argument,
    );
    assert.equal(engine.requests.length, 0);
  });
}

test('bad words are the ids of the word at the beginning of a word', async () => {
  const { engine, generator } = await setUp();
  const { tokenizer } = await gistMini();
  await generator.generate(ask('x', { badWords: ['cat', 'the old cafe'] }));
  const expected = await Promise.all(
    [' cat', ' the old cafe'].map((word) => tokenizer.encode(word, { addSpecialTokens: false })),
  );
  assert.deepEqual(engine.requests[0]?.params.badWordsIds, expected);
});

test('text ends before a stop string; the token that completed it is among the ids', async () => {
  const { tokenizer } = await gistMini();
  const ids = await tokenizer.encode('They meet at the', { addSpecialTokens: false });
  const engine = new ScriptedEngine({ sequences: [ids] });
  const models = await directoryOf(engine);
  const generator = new EngineTextGenerator(models, await withoutAdapters(models));
  const request = ask('x', { stop: ['t the'] });
  const [sequence] = (await generator.generate(request)).sequences;
  assert.equal(sequence?.text, 'They meet a');
  assert.deepEqual(sequence?.tokenIds, ids);
  const { texts, tokenIds } = await listen(generator.stream(request));
  assert.deepEqual(texts, ['They meet a']);
  assert.deepEqual(tokenIds, [ids]);
});

test('deltas of several sequences join to their texts and ids', async () => {
  const { generator, ids } = await setUp([FIRST, SECOND, '']);
  const { texts, tokenIds, finished } = await listen(generator.stream(ask('x', threeSequences)));
  assert.deepEqual(
    texts,
    finished?.generation.sequences.map(({ text }) => text),
  );
  assert.deepEqual(tokenIds, ids);
  assert.equal(finished?.generationId, 'generation-1');
});

test('for a reader that waits, what comes meanwhile is one delta a sequence', async () => {
  const { engine, generator, ids } = await setUp([FIRST, SECOND, '']);
  let waits = 0;
  const { tokenIds, deltaCount, finished } = await listen(generator.stream(ask('x', threeSequences)), async () => {
    waits++;
    await engine.answers[0];
  });
  assert.deepEqual(tokenIds, ids);
  assert.equal(waits, deltaCount);
  assert.ok(finished !== undefined);
  // the one it waited over; then of each sequence what came meanwhile and what was held back
  assert.ok(deltaCount <= 7, `${deltaCount} deltas of ${ids.flat().length} tokens`);
});

test('a reader that leaves cancels the request', async () => {
  const { engine, generator } = await setUp([FIRST], { waitsAfter: 5 });
  for await (const event of generator.stream(ask('x'))) {
    assert.equal(event.type, 'tokens');
    break;
  }
  const output = await engine.answers[0];
  assert.equal(output?.sequences[0]?.finishReason, 'cancelled');
  assert.equal(engine.pendingCount, 0);
});

test('a signal cancels: the answer is what there was, and the deltas join to it', async () => {
  const { generator, ids } = await setUp([FIRST], { waitsAfter: 5 });
  const leaving = new AbortController();
  const { texts, tokenIds, finished } = await listen(generator.stream(ask('x'), { signal: leaving.signal }), async () =>
    leaving.abort(),
  );
  const [sequence] = finished?.generation.sequences ?? [];
  assert.equal(sequence?.finishReason, 'cancelled');
  const { length } = sequence.tokenIds;
  assert.ok(length > 0 && length <= 5);
  assert.deepEqual(sequence.tokenIds, ids[0]?.slice(0, length));
  assert.deepEqual(texts, [sequence.text]);
  assert.deepEqual(tokenIds, [sequence.tokenIds]);

  const alone = await generator.generate(ask('x'), { signal: AbortSignal.abort() });
  assert.equal(alone.sequences[0]?.finishReason, 'cancelled');
});

test('what an engine fails with comes out of the answer and of the stream', async () => {
  const failure = new RuntimeError('TIMEOUT', 'Expected an answer in time.');
  const { generator } = await setUp([SECOND], { failure });
  await assert.rejects(generator.generate(ask('x')), failure);
  await assert.rejects(listen(generator.stream(ask('x'))), failure);
});
