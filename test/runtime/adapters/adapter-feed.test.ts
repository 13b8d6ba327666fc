import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AdapterFeed, MOST_WAITING } from '../../../src/runtime/adapters/adapter-feed.ts';
import type { AdapterChange, ServedAdapter } from '../../../src/runtime/adapters/served-adapter.ts';
import { scriptedModel } from '../../support/scripted-adapters.ts';

async function changeOf(modelId: string): Promise<AdapterChange> {
  const model = await scriptedModel(modelId);
  const facts = {
    method: 'LORA' as const,
    rank: 1,
    alpha: 1,
    targetModules: [],
    modules: [],
    parameterCount: 1,
    sizeBytes: 1,
    memoryBytes: 1,
    sha256: '',
    configSha256: '',
    report: { matchedTensors: [], unmatchedTensors: [], zeroTensors: [], warnings: [] },
  };
  const adapter: ServedAdapter = {
    id: 'a',
    name: 'a',
    model,
    source: 'dir:a',
    status: 'ready',
    facts,
    loadedAt: new Date(0),
    requestCount: 0,
    completionTokenCount: 0,
  };
  return { change: 'loaded', model, adapter };
}

async function modelsHeard(changes: AsyncIterable<AdapterChange>): Promise<readonly string[]> {
  const heard: string[] = [];
  for await (const { model } of changes) heard.push(model.id);
  return heard;
}

test('a listener hears what it listens to from its call on, whenever it begins to read', async () => {
  const feed = new AdapterFeed();
  const [first, second] = [await changeOf('first'), await changeOf('second')];
  feed.publish(first);
  const { signal } = new AbortController();
  const all = feed.listen(null, signal);
  const one = feed.listen('second', signal);
  for (const change of [first, second, first]) feed.publish(change);
  feed.close();
  assert.deepEqual(await modelsHeard(all), ['first', 'second', 'first']);
  assert.deepEqual(await modelsHeard(one), ['second']);
  assert.deepEqual(await modelsHeard(feed.listen(null, signal)), []);
});

test('a reader that waits is woken', async () => {
  const feed = new AdapterFeed();
  const change = await changeOf('first');
  const changes = feed.listen(null, new AbortController().signal)[Symbol.asyncIterator]();
  const next = changes.next();
  await new Promise(setImmediate);
  feed.publish(change);
  assert.equal((await next).value, change);
  const last = changes.next();
  feed.close();
  assert.equal((await last).done, true);
});

test('a reader that does not keep up is told so after what it was given; the others hear everything', async () => {
  const feed = new AdapterFeed();
  const change = await changeOf('first');
  const { signal } = new AbortController();
  const slow = feed.listen(null, signal)[Symbol.asyncIterator]();
  const quick = feed.listen(null, signal)[Symbol.asyncIterator]();
  for (let count = 0; count < MOST_WAITING + 10; count++) {
    feed.publish(change);
    assert.equal((await quick.next()).value, change);
  }
  for (let count = 0; count < MOST_WAITING; count++) assert.equal((await slow.next()).value, change);
  await assert.rejects(slow.next(), { code: 'OVERLOADED' });
  assert.equal((await slow.next()).done, true);
});

test('a signal ends a feed at once, begun or not', async () => {
  const feed = new AdapterFeed();
  const change = await changeOf('first');
  const leaving = new AbortController();
  const begun = feed.listen(null, leaving.signal)[Symbol.asyncIterator]();
  const next = begun.next();
  const waiting = feed.listen(null, leaving.signal);
  feed.publish(change);
  assert.equal((await next).value, change);
  const last = begun.next();
  leaving.abort();
  assert.equal((await last).done, true);
  assert.deepEqual(await modelsHeard(waiting), []);
  assert.deepEqual(await modelsHeard(feed.listen(null, leaving.signal)), []);
});
