/** The sending, over clients that answer by script. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { type TestContext, test } from 'node:test';
import { badRequests } from '../../src/bench/bad-requests.ts';
import { checkReply } from '../../src/bench/check-reply.ts';
import { LoadClient, type Reply } from '../../src/bench/load-client.ts';
import { RequestMix, ROUND_LENGTH } from '../../src/bench/load-mix.ts';
import type { LoadRequest } from '../../src/bench/load-request.ts';
import { LoadRun } from '../../src/bench/load-run.ts';
import { firstDialogue } from '../support/dialogues.ts';
import { startTestServer } from '../support/start-server.ts';

const newMix = () => new RequestMix({ seed: 1, maxInputTokens: 512 });

function openClient(t: TestContext, url: string): LoadClient {
  const client = new LoadClient(url, 1);
  t.after(() => client.close());
  return client;
}

/** Replies when told to. */
class HeldClient {
  readonly held: ((reply: Reply) => void)[] = [];
  most = 0;

  send(): Promise<Reply> {
    return new Promise((resolve) => {
      this.held.push(resolve);
      this.most = Math.max(this.most, this.held.length);
    });
  }

  /** Cancels the oldest request; its sender then goes on. */
  async release(): Promise<void> {
    this.held.shift()?.({ type: 'cancelled' });
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('exactly so many requests are in flight, until every kind was sent', async () => {
  const client = new HeldClient();
  const signal = new AbortController().signal;
  const run = new LoadRun({ mix: newMix(), client, durationMs: 0, inFlight: 5, signal });
  const sent = run.send();
  for (let count = 0; count < 2 * ROUND_LENGTH && run.account.sentCount < ROUND_LENGTH; count++) {
    assert.equal(client.held.length, 5);
    await client.release();
  }
  while (client.held.length > 0) await client.release();
  await sent;
  assert.equal(client.most, 5);
  assert.equal(run.account.openCount, 0);
  assert.equal(run.account.sentCount, run.account.count('cancelled'));
  assert.ok([...run.account.kinds.values()].every(({ sent: count }) => count > 0));
});

test('an abort ends the sending at once; what is in flight is still accounted for', async () => {
  const client = new HeldClient();
  const ending = new AbortController();
  const run = new LoadRun({ mix: newMix(), client, durationMs: 3_600_000, inFlight: 3, signal: ending.signal });
  const sent = run.send();
  await client.release();
  ending.abort();
  const { requestCount } = await run.window;
  assert.equal(requestCount, 1);
  assert.equal(run.account.openCount, 3);
  for (let count = 0; count < 3; count++) await client.release();
  await sent;
  assert.deepEqual([run.account.sentCount, run.account.openCount], [4, 0]);
});

test('without a reply a request is lost, by HTTP and by WebSocket', async (t) => {
  // not before data has come: fetch connects again and again while its request has not been sent
  const server = createServer((socket) => socket.once('data', () => socket.destroy())).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const client = openClient(t, `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const mix = newMix();
  const requests = Array.from({ length: ROUND_LENGTH }, () => mix.next());
  for (const request of requests) {
    if (request.type === 'abort') continue;
    const reply = await client.send(request, 0);
    assert.equal(reply.type, 'lost', `${request.kind}: ${JSON.stringify(reply)}`);
    assert.equal(checkReply(request, reply).outcome, 'lost');
  }
});

test('every bad request is refused as it says', async (t) => {
  const server = await startTestServer(t);
  const client = openClient(t, server.url);
  for (const [index, bad] of badRequests(firstDialogue, 512).entries()) {
    const request: LoadRequest = { index, kind: 'refused', type: 'refused', bad };
    const { outcome, problem } = checkReply(request, await client.send(request, 0));
    assert.equal(outcome, 'refused', `${problem} ${JSON.stringify(bad.variables)}`);
  }
});
