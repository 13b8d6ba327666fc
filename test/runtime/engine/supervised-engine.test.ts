/** Workers end when the test says so; time passes when the test says so. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SupervisedEngine } from '../../../src/runtime/engine/supervised-engine.ts';
import type { RuntimeError } from '../../../src/runtime/errors.ts';
import { FakeWorkers, REQUEST, START_MS, startOverFakeWorkers } from '../../support/fake-workers.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const CRASH = new Error('crashed');

async function refusalOf(engine: SupervisedEngine): Promise<readonly [string, number | undefined]> {
  try {
    await engine.generate(REQUEST);
  } catch (error) {
    const { code, details } = error as RuntimeError;
    return [code, details?.retryAfterMs];
  }
  return ['none', undefined];
}

test('a worker that ends is replaced; what it had fails with the time to come back, so does what comes meanwhile', async () => {
  const { clock, workers, events, engine } = await startOverFakeWorkers();
  await assert.rejects(engine.generate(REQUEST), /answered by worker 1/);

  const { code, details, message, cause } = workers.last.onEnded(CRASH);
  assert.deepEqual([code, details], ['MODEL_UNAVAILABLE', { retryAfterMs: 500 + START_MS }]);
  assert.match(message, /send the same request again in 700 ms/);
  assert.equal(cause, CRASH);
  assert.equal(engine.status, 'restarting');
  assert.equal(engine.pendingCount, 0);
  assert.deepEqual(await refusalOf(engine), ['OVERLOADED', 700]);

  await clock.advance(499);
  assert.equal(workers.starts.length, 1);
  await clock.advance(1);
  assert.equal(workers.starts.length, 2);
  assert.equal(engine.status, 'restarting');
  assert.deepEqual(await refusalOf(engine), ['OVERLOADED', 200]);
  // it takes longer than the last one did
  await clock.advance(300);
  assert.deepEqual(await refusalOf(engine), ['OVERLOADED', 100]);
  workers.last.succeed();
  await clock.advance(0);
  assert.equal(engine.status, 'ready');
  await assert.rejects(engine.generate(REQUEST), /answered by worker 2/);
  assert.deepEqual(events, [
    { type: 'ended', cause: CRASH, failureCount: 1, restartInMs: 500 },
    { type: 'restarted', startMs: 300 },
  ]);
});

test('ends and failed starts in a row lead to an end, and to an error that names no time', async () => {
  const { clock, workers, events, engine } = await startOverFakeWorkers();
  workers.last.onEnded(CRASH);
  for (let failure = 2; failure <= 8; failure++) {
    await clock.advance(30_000);
    assert.equal(workers.starts.length, failure);
    if (failure % 2 === 0) {
      workers.last.fail(CRASH);
      await clock.advance(0);
    } else {
      workers.last.succeed();
      await clock.advance(0);
      assert.equal(engine.status, 'ready');
      const error = workers.last.onEnded(CRASH);
      assert.equal(error.details.retryAfterMs === undefined, failure === 8);
    }
  }
  assert.equal(engine.status, 'failed');
  assert.deepEqual(await refusalOf(engine), ['MODEL_UNAVAILABLE', undefined]);
  assert.deepEqual(events.at(-1), { type: 'given-up', cause: CRASH, failureCount: 8 });
  assert.equal(clock.alarmCount, 0);
  await engine.close();
});

test('a first worker that does not start is an error, and there is no second', async () => {
  const clock = new ManualClock();
  const workers = new FakeWorkers();
  const started = SupervisedEngine.start({ start: workers.start, clock });
  workers.last.fail(CRASH);
  await assert.rejects(started, CRASH);
  assert.deepEqual([workers.starts.length, clock.alarmCount], [1, 0]);
});

test('closed, it lets its worker end and starts none', async () => {
  const { clock, workers, events, engine } = await startOverFakeWorkers();
  await engine.close();
  assert.deepEqual([engine.status, workers.closedCount], ['draining', 1]);
  const { code, details } = workers.last.onEnded(CRASH);
  assert.deepEqual([code, details], ['MODEL_UNAVAILABLE', { retryAfterMs: 1000 }]);
  assert.deepEqual([clock.alarmCount, workers.starts.length], [0, 1]);
  assert.deepEqual(events, [{ type: 'ended', cause: CRASH, failureCount: 1, restartInMs: undefined }]);
});

test('closed while it waits for a restart, it starts none', async () => {
  const { clock, workers, engine } = await startOverFakeWorkers();
  workers.last.onEnded(CRASH);
  await engine.close();
  assert.deepEqual([engine.status, clock.alarmCount], ['draining', 0]);
  assert.equal((await refusalOf(engine))[0], 'OVERLOADED');
});

test('closed while a worker starts, it ends that worker', async () => {
  const { clock, workers, events, engine } = await startOverFakeWorkers();
  workers.last.onEnded(CRASH);
  await clock.advance(500);
  assert.equal(workers.starts.length, 2);
  await engine.close();
  assert.ok(workers.last.signal.aborted);
  assert.deepEqual([engine.status, clock.alarmCount, events.length], ['draining', 0, 1]);
});

test('while the server stops, a worker that lives goes on and one that ends is not replaced', async () => {
  const { clock, workers, stopping, engine } = await startOverFakeWorkers();
  stopping.abort();
  assert.equal(engine.status, 'ready');
  await assert.rejects(engine.generate(REQUEST), /answered by worker 1/);
  assert.equal(workers.last.onEnded(CRASH).details.retryAfterMs, 1000);
  assert.deepEqual([engine.status, clock.alarmCount], ['draining', 0]);
});

test('a server that stops takes back the restart that it waits for, and the one that runs', async () => {
  for (const waited of [100, 500]) {
    const { clock, workers, stopping, engine } = await startOverFakeWorkers();
    workers.last.onEnded(CRASH);
    await clock.advance(waited);
    stopping.abort();
    await clock.advance(60_000);
    assert.deepEqual([engine.status, workers.starts.length], ['draining', waited === 500 ? 2 : 1]);
    assert.ok(workers.last.signal.aborted);
    await engine.close();
  }
});
