/** The server as a process, as a user starts it. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { chooseDevice } from '../../src/runtime/device/device-choice.ts';
import { probeCuda } from '../../src/runtime/device/probe-cuda.ts';
import { GenerationStreamDocument } from '../generated/operations.ts';
import { repositoryPath } from '../support/oracle.ts';
import { TestConnection } from '../support/start-server.ts';

async function start(t: TestContext): Promise<{ child: ChildProcess; line: string; url: string }> {
  const child = spawn(process.execPath, ['--import', 'tsx', repositoryPath('src/main.ts')], {
    env: { ...process.env, PORT: '0', GISTQL_LOG_LEVEL: 'silent', GISTQL_THREADS: '2', GISTQL_DEVICE: 'auto' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  assert.ok(child.stdout !== null);
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  const [url = ''] = /http:\S+/.exec(line) ?? [];
  return { child, line, url };
}

test('one line says where, with which model, in which precision, on which device and why; health, GraphiQL; SIGTERM drains and exits 0', async (t) => {
  const { child, line, url } = await start(t);
  const { device, reason } = await chooseDevice('auto', probeCuda);
  const address = line.replace(`GistQL serves gist-mini (FP32 on ${device.toUpperCase()}: ${reason}) at `, '');
  assert.match(address, /^http:\/\/127\.0\.0\.1:\d+\/graphql$/);
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

/** What a start that fails says, and its exit code. */
async function failedStart(environment: Readonly<Record<string, string>>) {
  const child = spawn(process.execPath, ['--import', 'tsx', repositoryPath('src/main.ts')], {
    env: { ...process.env, PORT: '0', GISTQL_LOG_LEVEL: 'silent', ...environment },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const [said, [code]] = await Promise.all([text(child.stderr), once(child, 'close')]);
  return { said, code };
}

test('a bad setting is said and ends the process', async () => {
  const { said, code } = await failedStart({ PORT: 'many' });
  assert.equal(code, 1);
  assert.match(said, /Expected PORT to be a whole number from 0 to 65535, "many" came/);
});

test('where CUDA is asked for and does not work, one line says what is missing and ends the process', async (t) => {
  const obstacle = await probeCuda();
  if (obstacle === undefined) return t.skip('CUDA works here');
  const { said, code } = await failedStart({ GISTQL_DEVICE: 'cuda' });
  assert.equal(code, 1);
  assert.equal(said.trim().split('\n').length, 1, said);
  assert.match(said, /^Expected CUDA to work here, since GISTQL_DEVICE is cuda; /);
  assert.ok(said.includes(obstacle.missing), said);
});
