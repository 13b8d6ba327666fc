/** Prompts are read in chunks between the steps of those that run, and a chunk changes nothing of what follows. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CHUNK_TOKENS } from '../../../src/runtime/decoder-only/prompt-prefill.ts';
import { EngineHarness, loadRunner } from '../../support/engine-harness.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';
import { tinyGpt2, tinyLlama, writeTinyDecoderOnly } from '../../support/tiny-decoder-only.ts';

const LONG = 3 * CHUNK_TOKENS + 20;
const UNENDING = { maxNewTokens: 60, minNewTokens: 60 };

function prompt(length: number, seed: number): readonly number[] {
  const next = seededNumbers(seed);
  return Array.from({ length }, () => 3 + Math.floor(next() * 115));
}

for (const [family, config] of Object.entries({ 'GPT-2': tinyGpt2, Llama: tinyLlama })) {
  test(`${family}: a long prompt is read a chunk a step while others go on, all at once when nothing runs`, async (t) => {
    const { parent, name } = await writeTinyDecoderOnly(t, config);
    const { runner } = await loadRunner(parent, name);
    t.after(() => runner.dispose());
    let joined = 0;
    const harness = new EngineHarness(runner, { prefillTokens: CHUNK_TOKENS }, ({ number, rows }) => {
      if (number === 3) harness.submit({ id: 'long', promptTokenIds: prompt(LONG, 2), options: UNENDING });
      if (joined === 0 && rows.length === 2) joined = number;
    });
    harness.submit({ id: 'short', promptTokenIds: prompt(9, 1), options: UNENDING });
    await harness.drain();
    // step 3 is under way when it comes: chunks before steps 4, 5, 6 and 7
    assert.equal(joined, 7);
    const alone = await EngineHarness.runAll(runner, [
      { id: 'long', promptTokenIds: prompt(LONG, 2), options: UNENDING },
    ]);
    assert.deepEqual(harness.outputs.get('long')?.sequences, alone.outputs.get('long')?.sequences);
    assert.equal(alone.traces[0]?.rows.length, 1);
  });

  test(`${family}: states of a text of several chunks = those of its tokens one by one`, async (t) => {
    const { parent, name } = await writeTinyDecoderOnly(t, config);
    const { runner } = await loadRunner(parent, name);
    t.after(() => runner.dispose());
    const ids = prompt(CHUNK_TOKENS + 7, 3);
    const whole = await runner.embed(ids, 'encoder');
    // what a token's state is does not depend on what follows it
    for (const length of [1, 2, CHUNK_TOKENS - 1, CHUNK_TOKENS, CHUNK_TOKENS + 1]) {
      const part = await runner.embed(ids.slice(0, length), 'encoder');
      const size = part.length / length;
      const difference = part.reduce((most, value, index) => Math.max(most, Math.abs(value - (whole[index] ?? 0))), 0);
      assert.ok(difference < 1e-4, `${length} tokens of ${size}: ${difference}`);
    }
  });
}

test('a caller that leaves while its prompt is read frees its rows, and who comes back later is answered the same', async (t) => {
  const { parent, name } = await writeTinyDecoderOnly(t, tinyLlama);
  const { runner } = await loadRunner(parent, name);
  t.after(() => runner.dispose());
  const long = { promptTokenIds: prompt(LONG, 4), options: UNENDING };
  const harness = new EngineHarness(runner, { prefillTokens: 1, maxRows: 2 }, ({ number }) => {
    if (number === 2) harness.submit({ id: 'leaves', ...long });
    if (number === 4) harness.engine.cancel('leaves');
    if (number === 5) harness.submit({ id: 'stays', ...long });
  });
  harness.submit({ id: 'short', promptTokenIds: prompt(5, 5), options: UNENDING });
  await harness.drain();
  assert.deepEqual(harness.tokenIds('leaves'), [[]]);
  assert.equal(harness.outputs.get('leaves')?.sequences[0]?.finishReason, 'cancelled');
  const alone = await EngineHarness.runAll(runner, [{ id: 'stays', ...long }]);
  assert.deepEqual(harness.outputs.get('stays')?.sequences, alone.outputs.get('stays')?.sequences);
});

test('a background request that gives way while its prompt is read goes on with it where it was', async (t) => {
  const { parent, name } = await writeTinyDecoderOnly(t, tinyLlama);
  const { runner } = await loadRunner(parent, name);
  t.after(() => runner.dispose());
  const long = { promptTokenIds: prompt(LONG, 6), options: UNENDING };
  const short = { promptTokenIds: prompt(5, 7), options: UNENDING };
  let readBefore = 0;
  const reads = t.mock.method(runner, 'prefill');
  const harness = new EngineHarness(runner, { prefillTokens: 1, maxRows: 2 }, ({ number }) => {
    if (number === 2) harness.submit({ id: 'background', ...long, priority: 'background' });
    if (number === 4) {
      readBefore = reads.mock.callCount();
      harness.submit({ id: 'interactive', ...short });
    }
  });
  harness.submit({ id: 'short', ...short });
  await harness.drain();
  // its prompt was begun before it gave way, and only once
  assert.equal(readBefore, 2);
  assert.equal(reads.mock.callCount(), 3);
  const started = harness.traces.findIndex(({ rows }) => rows.some(({ requestId }) => requestId === 'background'));
  assert.ok(started > 50, `it waited for the interactive one, until step ${started}`);
  const alone = await EngineHarness.runAll(runner, [{ id: 'background', ...long }]);
  assert.deepEqual(harness.outputs.get('background')?.sequences, alone.outputs.get('background')?.sequences);
});

test('who comes while a long prompt is read has its turn: before that one is done, background ones last', async (t) => {
  const { parent, name } = await writeTinyDecoderOnly(t, tinyLlama);
  const { runner } = await loadRunner(parent, name);
  t.after(() => runner.dispose());
  const options = { maxNewTokens: 3, minNewTokens: 3 };
  for (const priority of ['interactive', 'background'] as const) {
    const order: string[] = [];
    const harness = new EngineHarness(runner, { prefillTokens: CHUNK_TOKENS });
    const finished = (): void => {
      for (const id of harness.outputs.keys()) if (!order.includes(id)) order.push(id);
    };
    harness.submit({ id: 'long', promptTokenIds: prompt(LONG, 8), options, priority });
    await harness.engine.step();
    harness.submit({ id: 'short', promptTokenIds: prompt(5, 9), options });
    while (harness.engine.hasWork) {
      await harness.engine.step();
      finished();
    }
    assert.deepEqual(order, ['short', 'long'], priority);
  }
});

test('a background prompt is read although interactive ones never end, and holds none of them up', async (t) => {
  const { parent, name } = await writeTinyDecoderOnly(t, tinyLlama);
  const { runner } = await loadRunner(parent, name);
  t.after(() => runner.dispose());
  const options = { maxNewTokens: 1 };
  const harness = new EngineHarness(runner, { prefillTokens: CHUNK_TOKENS, maxRows: 16 });
  harness.submit({ id: 'background', promptTokenIds: prompt(LONG, 1), options, priority: 'background' });
  let sent = 0;
  const send = (): void => harness.submit({ id: `i${sent}`, promptTokenIds: prompt(CHUNK_TOKENS, sent++), options });
  for (let step = 0; !harness.outputs.has('background'); step++) {
    assert.ok(step < 300, 'the background request is never answered');
    // more than a step reads are always waiting
    while (sent - harness.outputs.size < 6) send();
    await harness.engine.step();
  }
  assert.ok(harness.outputs.size > 20, `${harness.outputs.size} interactive ones were answered meanwhile`);
});

test('vectors of a long text let others go on between its pieces', async (t) => {
  const { parent, name } = await writeTinyDecoderOnly(t, tinyLlama);
  const { runner } = await loadRunner(parent, name);
  t.after(() => runner.dispose());
  let pauses = 0;
  const ids = prompt(LONG, 10);
  const paused = await runner.embed(ids, 'encoder', async () => void pauses++);
  assert.equal(pauses, 3);
  assert.deepEqual(paused, await runner.embed(ids, 'encoder'));
});

test('a long prompt that would make the cache of many too large waits for them, and those that fit pass it', async (t) => {
  const { parent, name } = await writeTinyDecoderOnly(t, tinyLlama);
  const { runner } = await loadRunner(parent, name);
  t.after(() => runner.dispose());
  const cache = runner.createCache();
  const cacheBytes = cache.bytesFor(8, 100);
  assert.ok(cache.bytesFor(8, LONG) > cacheBytes && cache.bytesFor(1, LONG) < cacheBytes);
  const harness = new EngineHarness(runner, { cacheBytes });
  const options = { maxNewTokens: 12, minNewTokens: 12 };
  for (let index = 0; index < 7; index++)
    harness.submit({ id: `a${index}`, promptTokenIds: prompt(20, index), options });
  harness.submit({ id: 'long', promptTokenIds: prompt(LONG, 11), options });
  harness.submit({ id: 'behind', promptTokenIds: prompt(20, 12), options });
  await harness.drain();
  const ids = harness.traces.map(({ rows }) => rows.map(({ requestId }) => requestId));
  assert.ok(ids[0]?.includes('behind') && !ids[0].includes('long'));
  for (const together of ids) assert.ok(!together.includes('long') || together.length < 7);
  const alone = await EngineHarness.runAll(runner, [{ id: 'long', promptTokenIds: prompt(LONG, 11), options }]);
  assert.deepEqual(harness.outputs.get('long')?.sequences, alone.outputs.get('long')?.sequences);
});
