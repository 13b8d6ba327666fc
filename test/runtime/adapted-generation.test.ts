/** Requests with adapters in the text layer: what reaches the engine, and that adapters are free again afterwards. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { GenerationLoader } from '../../src/resolvers/loaders.ts';
import type { AdapterRegistry } from '../../src/runtime/adapters/adapter-registry.ts';
import { EngineTextGenerator } from '../../src/runtime/engine-text-generator.ts';
import { RuntimeError } from '../../src/runtime/errors.ts';
import { TemplateSummarizer } from '../../src/runtime/template-summarizer.ts';
import type { TextRequest } from '../../src/runtime/text-generation.ts';
import { openAdapters } from '../support/scripted-adapters.ts';
import { directoryOf, gistMini, type Script, ScriptedEngine } from '../support/scripted-engine.ts';

async function setUp(t: TestContext, script: Partial<Script> = {}, budgetBytes = 100) {
  const { tokenizer } = await gistMini();
  const engine = new ScriptedEngine({ sequences: [await tokenizer.encode('Six it is, they say.')], ...script });
  const models = await directoryOf(engine);
  const { registry, reader } = await openAdapters(t, { budgetBytes });
  await registry.modelLoaded(models.get());
  for (const mark of [1, 2]) {
    await reader.write(`x${mark}`, { memoryBytes: 10, mark });
    await registry.load({ id: `a${mark}`, modelId: 'gist-mini', source: `dir:x${mark}` });
  }
  const generator = new EngineTextGenerator(models, registry);
  return { engine, registry, generator, summarizer: new TemplateSummarizer(models, generator) };
}

function ask(...ids: readonly string[]): TextRequest {
  return { prompt: 'x', onOverflow: 'error', adapters: ids.map((id) => ({ id })) };
}

/** Resolves only when no request has one of them. */
async function assertFree(registry: AdapterRegistry): Promise<void> {
  for (const { id } of registry.list()) assert.equal(await registry.unload(id), true);
}

test('the adapters of a request reach the engine, are told of in its answer, and count it', async (t) => {
  const { engine, registry, generator, summarizer } = await setUp(t);
  await registry.activate('gist-mini', 'a1');
  const adapters = [{ id: 'a2', weight: 0.5 }, { id: 'a1' }];
  const answers = [
    await generator.generate({ prompt: 'x', onOverflow: 'error', adapters }),
    await generator.generate({ prompt: 'x', onOverflow: 'error' }),
    await generator.generate(ask()),
    (await summarizer.summarize({ text: 'x', onOverflow: 'error', adapters })).generation,
    (await summarizer.summarize({ text: 'x', onOverflow: 'error', adapters: null })).generation,
  ];
  const both = [
    { key: 'a2', weight: 0.5 },
    { key: 'a1', weight: 1 },
  ];
  const active = [{ key: 'a1', weight: 1 }];
  assert.deepEqual(
    engine.requests.map((request) => request.adapters),
    [both, active, [], both, active],
  );
  assert.deepEqual(
    answers.map((answer) => answer.adapters.map(({ id }) => id)),
    [['a2', 'a1'], ['a1'], [], ['a2', 'a1'], ['a1']],
  );
  const { requestCount, completionTokenCount } = registry.find('a1') ?? {};
  const tokens = answers[0]?.usage.completionTokens ?? 0;
  assert.deepEqual([requestCount, completionTokenCount], [4, 4 * tokens]);
});

test('what is wrong with adapters is refused before the engine hears of the request', async (t) => {
  const { engine, generator, summarizer } = await setUp(t);
  const refused = { code: 'NOT_FOUND', details: { argument: 'adapters' } };
  await assert.rejects(generator.prepare(ask('none')), refused);
  await assert.rejects(summarizer.prepare({ text: 'x', onOverflow: 'error', adapters: [{ id: 'none' }] }), refused);
  await assert.rejects(generator.stream(ask('none'))[Symbol.asyncIterator]().next(), refused);
  assert.equal(engine.requests.length, 0);
});

test('a prepared request keeps its adapters in service until it is run or discarded', async (t) => {
  const { registry, generator, summarizer } = await setUp(t);
  const prepared = await generator.prepare(ask('a1'));
  const discarded = await summarizer.prepare({ text: 'x', onOverflow: 'error', adapters: [{ id: 'a2' }] });
  const unloads = [registry.unload('a1'), registry.unload('a2')];
  await new Promise(setImmediate);
  assert.deepEqual(
    registry.list().map(({ status }) => status),
    ['draining', 'draining'],
  );
  assert.deepEqual(
    (await prepared.run()).adapters.map(({ id }) => id),
    ['a1'],
  );
  discarded.discard();
  assert.deepEqual(await Promise.all(unloads), [true, true]);
});

test('adapters are free after a request that was refused, failed, or was answered', async (t) => {
  const { registry, generator } = await setUp(t, { failure: new RuntimeError('TIMEOUT', 'Expected an answer.') });
  await assert.rejects(generator.generate(ask('a1')), { code: 'TIMEOUT' });
  await assert.rejects(generator.generate({ ...ask('a1'), prompt: 'cat '.repeat(2000) }), { code: 'INPUT_TOO_LONG' });
  await assert.rejects(generator.generate({ ...ask('a1'), decoding: { topK: -1 } }));
  const events = generator.stream(ask('a2'));
  await assert.rejects(
    (async () => {
      for await (const { type } of events) assert.equal(type, 'tokens');
    })(),
    { code: 'TIMEOUT' },
  );
  await assertFree(registry);
});

test('adapters are free after a reader left, at any moment', async (t) => {
  const { registry, generator, summarizer } = await setUp(t, { waitsAfter: 5 });
  for await (const { type } of generator.stream(ask('a1'))) {
    assert.equal(type, 'tokens');
    break;
  }
  const request = { text: 'x', onOverflow: 'error' as const, adapters: [{ id: 'a2' }] };
  for await (const { type } of summarizer.stream(request)) {
    assert.equal(type, 'tokens');
    break;
  }
  const leaving = new AbortController();
  const begun = generator.stream(ask('a1'), { signal: leaving.signal })[Symbol.asyncIterator]();
  const first = begun.next();
  leaving.abort();
  await first;
  await begun.return?.(undefined);
  // never begun
  await generator.stream(ask('a1'))[Symbol.asyncIterator]().return?.(undefined);
  await assertFree(registry);
});

test('a request that is cancelled while it waits for its adapters is answered with nothing, as cancelled', async (t) => {
  const { engine, registry, generator } = await setUp(t, { waitsAfter: 2 }, 10);
  const [leaving, ending] = [new AbortController(), new AbortController()];
  const running = generator.generate(ask('a1'), { signal: ending.signal });
  while (engine.requests.length === 0) await new Promise(setImmediate);
  const waiting = generator.generate(
    { ...ask('a2'), decoding: { numReturnSequences: 2, numBeams: 2 } },
    { signal: leaving.signal },
  );
  await new Promise(setImmediate);
  leaving.abort();
  const { sequences, usage } = await waiting;
  assert.deepEqual(
    sequences.map(({ text, finishReason }) => [text, finishReason]),
    [
      ['', 'cancelled'],
      ['', 'cancelled'],
    ],
  );
  assert.deepEqual([usage.completionTokens, engine.requests.length], [0, 1]);
  ending.abort();
  await running;
  await assertFree(registry);
});

test('aliases of one document whose adapters do not fit in memory together are answered, and one that fails hurts none', async (t) => {
  const { registry, generator } = await setUp(t, {}, 10);
  const loader = new GenerationLoader(new AbortController().signal);
  const answers = await Promise.allSettled(
    [ask('a1'), ask('a2'), ask('none'), ask('a1'), ask()].map((request) =>
      loader.load(() => generator.prepare(request)),
    ),
  );
  assert.deepEqual(
    answers.map((answer) =>
      answer.status === 'fulfilled' ? answer.value.adapters.map(({ id }) => id) : (answer.reason as RuntimeError).code,
    ),
    [['a1'], ['a2'], 'NOT_FOUND', ['a1'], []],
  );
  await assertFree(registry);
});

test('requests of one document reach the engine in one tick, with adapters or without', async (t) => {
  const { engine, generator } = await setUp(t);
  const loader = new GenerationLoader(new AbortController().signal);
  const prepare = (...ids: readonly string[]) => loader.load(() => generator.prepare(ask(...ids)));
  await Promise.all([prepare('a1'), prepare(), prepare('a2', 'a1')]);
  assert.deepEqual([engine.requests.length, engine.firstTickCount], [3, 3]);
});
