import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultRestartRules, RestartPolicy } from '../../../src/runtime/engine/restart-policy.ts';
import { ManualClock } from '../../support/manual-clock.ts';

function setUp(): { clock: ManualClock; policy: RestartPolicy } {
  const clock = new ManualClock();
  return { clock, policy: new RestartPolicy(defaultRestartRules, () => clock.now()) };
}

test('failures in a row wait twice as long each, from half a second to half a minute, then there is an end', () => {
  const { policy } = setUp();
  const delays = Array.from({ length: 8 }, () => policy.failed());
  assert.deepEqual(delays, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, undefined]);
  assert.equal(policy.failureCount, 8);
});

test('a worker that was in service for a minute ends for the first time', async () => {
  const { clock, policy } = setUp();
  for (const expected of [500, 1000, 2000]) assert.equal(policy.failed(), expected);
  policy.started();
  await clock.advance(60_000);
  assert.equal(policy.failed(), 500);
  assert.equal(policy.failureCount, 1);
});

test('a worker that ended soon goes on with the row, and so does one that did not start', async () => {
  const { clock, policy } = setUp();
  assert.equal(policy.failed(), 500);
  policy.started();
  await clock.advance(59_999);
  assert.equal(policy.failed(), 1000);
  // waiting is no service
  await clock.advance(600_000);
  assert.equal(policy.failed(), 2000);
});
