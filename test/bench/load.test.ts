/** A short load on the real server, as a process. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runLoad } from '../../src/bench/load.ts';
import { runLoadCommand } from '../../src/bench/load-command.ts';
import { formatProblems, formatReport, isClean } from '../../src/bench/load-report.ts';
import { loadKinds } from '../../src/bench/load-request.ts';

const options = {
  modelSource: 'embedded:gist-mini',
  durationMs: 3000,
  inFlight: 8,
  seed: 1,
  idleMs: 100,
  signal: new AbortController().signal,
  onProgress: () => {},
};

test('of a mix of every kind nothing is lost or wrong, and the server ends well', async () => {
  const result = await runLoad(options);
  assert.ok(isClean(result), formatProblems(result));
  const { account } = result;
  for (const [kind, { sent, outcomes }] of account.kinds) {
    const { answered, refused, cancelled } = outcomes;
    const mayBeLeft = kind === 'abortedRequest' || kind === 'endedStream' || kind === 'closedSocket';
    const expected = kind === 'refused' ? refused : answered + (mayBeLeft ? cancelled : 0);
    assert.ok(sent > 0, kind);
    assert.equal(expected, sent, kind);
  }
  assert.ok(account.newTokens > 0);
  assert.equal(account.unequalCount, 0);
  const report = formatReport(result);
  for (const kind of loadKinds) assert.match(report, new RegExp(`^\\| ${kind} \\|`, 'm'));
  assert.match(report, /^\| server, under load \| [\d.]+ \|/m);
});

test('a load ends before it began when its signal does', async () => {
  await assert.rejects(runLoad({ ...options, signal: AbortSignal.abort() }), { name: 'AbortError' });
});

test('a server that does not start is an error', async () => {
  await assert.rejects(runLoad({ ...options, modelSource: 'embedded:none' }), /ended with exit code 1/);
});

test('arguments are checked before anything starts', async () => {
  const right = { minutes: '1', inFlight: '1', seed: '1', modelSource: undefined };
  await assert.rejects(runLoadCommand({ ...right, minutes: 'long' }), /--minutes to be a number from .*"long" came/);
  await assert.rejects(runLoadCommand({ ...right, inFlight: '1.5' }), /--in-flight to be a whole number/);
  await assert.rejects(runLoadCommand({ ...right, seed: '-1' }), /--seed to be a number from 0/);
});
