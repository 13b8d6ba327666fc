/** The server as a process, as a user starts it. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { GenerationStreamDocument } from '../generated/operations.ts';
import { repositoryPath } from '../support/oracle.ts';
import { TestConnection } from '../support/start-server.ts';

async function start(t: TestContext): Promise<{ child: ChildProcess; line: string; url: string }> {
  const child = spawn(process.execPath, ['--import', 'tsx', repositoryPath('src/main.ts')], {
    env: { ...process.env, PORT: '0', GISTQL_LOG_LEVEL: 'silent', GISTQL_THREADS: '2' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  assert.ok(child.stdout !== null);
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  const [url = ''] = /http:\S+/.exec(line) ?? [];
  return { child, line, url };
}

test('one line says where, with which model, in which precision; health, GraphiQL; SIGTERM drains and exits 0', async (t) => {
  const { child, line, url } = await start(t);
  assert.match(line, /^GistQL serves gist-mini \(FP32 on CPU\) at http:\/\/127\.0\.0\.1:\d+\/graphql$/);
  const root = url.replace(/\/graphql$/, '');
  assert.equal((await fetch(`${root}/health/live`)).status, 200);
  assert.equal((await fetch(`${root}/health/ready`)).status, 200);
  assert.equal((await fetch(`${root}/nothing`)).status, 404);

  const page = await (await fetch(url, { headers: { accept: 'text/html' } })).text();
  assert.doesNotMatch(page, /https?:\/\//);
  const files = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => path ?? '');
  assert.equal(files.length, 4);
  for (const path of files) {
    const answer = await fetch(root + path);
    assert.equal(answer.status, 200, path);
    assert.ok((await answer.text()).length > 1000, path);
  }

  const connection = new TestConnection(root.replace(/^http/, 'ws'));
  const input = { prompt: 'Hello', decoding: { maxNewTokens: 400, minNewTokens: 400 } };
  const events = connection.subscribe(GenerationStreamDocument, { input });
  await events.next();
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  let completionTokens = 0;
  for await (const { data } of events) {
    const event = data?.generationStream;
    if (event?.__typename === 'GenerationFinished') completionTokens = event.generation.usage.completionTokens;
  }
  assert.equal(completionTokens, 400);
  assert.deepEqual(await exited, [0, null]);
});

test('a second signal ends it at once, in the middle of a generation', async (t) => {
  const { child, url } = await start(t);
  const root = url.replace(/\/graphql$/, '');
  const connection = new TestConnection(root.replace(/^http/, 'ws'));
  const decoding = { maxNewTokens: 500, minNewTokens: 500, doSample: true, numReturnSequences: 8 };
  const events = connection.subscribe(GenerationStreamDocument, { input: { prompt: 'Hello', decoding } });
  await events.next();
  const dropped = assert.rejects(async () => {
    for await (const _ of events);
  });
  const ready = async () => (await fetch(`${root}/health/ready`)).status;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  // the first one is heard
  while ((await ready()) === 200);
  child.kill('SIGTERM');
  assert.deepEqual(await exited, [null, 'SIGTERM']);
  await dropped;
});

test('a bad setting is said and ends the process', async () => {
  const child = spawn(process.execPath, ['--import', 'tsx', repositoryPath('src/main.ts')], {
    env: { ...process.env, PORT: 'many' },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const [code] = await once(child, 'exit');
  assert.equal(code, 1);
  assert.match(said, /Expected PORT to be a whole number from 0 to 65535, "many" came/);
});
