import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkReply } from '../../src/bench/check-reply.ts';
import { LoadAccount } from '../../src/bench/load-account.ts';
import type { Reply, StreamEvent } from '../../src/bench/load-client.ts';
import type { AskedDecoding, GenerationPart, LoadRequest } from '../../src/bench/load-request.ts';

const decoding: AskedDecoding = { doSample: true, seed: 4, maxNewTokens: 3, numReturnSequences: 2, stop: ['!'] };
const part: GenerationPart = { repeatId: '0', field: 'generate', input: { prompt: 'x', decoding } };
const asked: LoadRequest = { index: 0, kind: 'sequences', type: 'generate', parts: [part] };
const streamed: LoadRequest = { index: 1, kind: 'generationStream', type: 'stream', part };

const sequences = [
  { text: 'a b', tokenIds: [5, 6, 7], finishReason: 'LENGTH' },
  { text: 'c', tokenIds: [8, 1], finishReason: 'STOP' },
];
const generation = { seed: 4, usage: { promptTokens: 2, completionTokens: 5 }, sequences };

function answered(changed: object): Reply {
  return { type: 'answer', data: { part0: { ...generation, ...changed } }, latencyMs: 1 };
}

function withFirst(changed: object): Reply {
  return answered({ sequences: sequences.map((one, index) => (index === 0 ? { ...one, ...changed } : one)) });
}

const delta = (sequenceIndex: number, text: string, tokenIds: readonly number[]): StreamEvent => ({
  __typename: 'TokensAppended',
  generationId: 'g',
  sequenceIndex,
  text,
  tokenIds,
});
const deltas = [delta(0, 'a ', [5]), delta(1, 'c', [8]), delta(0, 'b', [6, 7]), delta(1, '', [1])];
const finished: StreamEvent = { __typename: 'GenerationFinished', generationId: 'g', generation };

function events(all: readonly StreamEvent[]): Reply {
  return { type: 'events', events: all, latencyMs: 1, firstEventMs: 1 };
}

test('what was asked for is answered, at once or streamed, with the same fingerprint', () => {
  const expected = { outcome: 'answered', newTokens: 5, fingerprints: [{ repeatId: '0', value: '[[5,6,7],[8,1]]' }] };
  assert.deepEqual(checkReply(asked, answered({})), expected);
  assert.deepEqual(checkReply(streamed, events([...deltas, finished])), expected);
});

for (const [what, request, reply] of [
  ['too few sequences', asked, answered({ sequences: sequences.slice(1) })],
  ['another seed', asked, answered({ seed: 5 })],
  ['tokens that were not counted', asked, answered({ usage: { promptTokens: 2, completionTokens: 6 } })],
  ['too many tokens', asked, withFirst({ tokenIds: [5, 6, 7, 8] })],
  ['a limit that was not reached', asked, withFirst({ tokenIds: [5, 6] })],
  ['a cancelled sequence', asked, withFirst({ finishReason: 'CANCELLED' })],
  ['a stop string', asked, withFirst({ text: 'a!' })],
  ['no data', asked, { type: 'answer', data: null, latencyMs: 1 }],
  ['errors', asked, { type: 'errors', errors: [{ message: 'no' }], latencyMs: 1 }],
  ['a lost delta', streamed, events([...deltas.slice(1), finished])],
  ['a delta twice', streamed, events([delta(0, 'a ', [5]), ...deltas, finished])],
  ['a stream without end', streamed, events(deltas)],
  ['a stream with two ends', streamed, events([finished, ...deltas, finished])],
  ['no event', streamed, events([])],
] as const satisfies readonly (readonly [string, LoadRequest, Reply])[]) {
  test(`wrong: ${what}`, () => {
    const { outcome, problem } = checkReply(request, reply);
    assert.equal(outcome, 'wrong');
    assert.ok(problem);
  });
}

test('a bad request has to get its own error', () => {
  const bad = { transport: 'http', query: '{', variables: {}, code: 'BAD_USER_INPUT', argument: 'stop' } as const;
  const request: LoadRequest = { index: 0, kind: 'refused', type: 'refused', bad };
  const refused = (extensions: object): Reply => ({
    type: 'errors',
    errors: [{ message: 'no', extensions }],
    latencyMs: 1,
  });
  const outcome = (reply: Reply) => checkReply(request, reply).outcome;
  assert.equal(outcome(refused({ code: 'BAD_USER_INPUT', argument: 'stop' })), 'refused');
  assert.equal(outcome(refused({ code: 'BAD_USER_INPUT', argument: 'topK' })), 'wrong');
  assert.equal(outcome(refused({ code: 'BAD_USER_INPUT' })), 'wrong');
  assert.equal(outcome(refused({ code: 'INTERNAL_SERVER_ERROR' })), 'wrong');
  assert.equal(outcome({ type: 'answer', data: {}, latencyMs: 1 }), 'wrong');
});

test('equal requests with other tokens are wrong, and every request has one outcome', () => {
  const account = new LoadAccount();
  const replies = [answered({}), answered({}), withFirst({ tokenIds: [5, 6, 9] }), { type: 'lost', reason: 'gone' }];
  for (const [index, reply] of (replies as readonly Reply[]).entries()) {
    const request = { ...asked, index };
    account.begin(request);
    assert.equal(account.openCount, 1);
    account.end(request, reply, checkReply(request, reply));
    assert.equal(account.openCount, 0);
  }
  assert.deepEqual([account.count('answered'), account.count('wrong'), account.count('lost')], [2, 1, 1]);
  assert.deepEqual([account.repeatCount, account.unequalCount], [2, 1]);
  assert.deepEqual(
    account.problems.map(({ request }) => request.index),
    [2, 3],
  );
});
