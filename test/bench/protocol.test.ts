/** `gistql bench --protocol` as a process: what it says of itself, and what it answers. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { repositoryPath } from '../support/oracle.ts';
import { writeTinyModel } from '../support/tiny-model.ts';

type Message = Readonly<Record<string, unknown>>;

/** Rows of 64: more than a server takes by default. */
const MANY = Array.from({ length: 64 }, (_, row) => [5 + (row % 50), 6, 7, 1]);
const REQUEST = { batch: 64, beams: 1, newTokens: 20, sourceIds: MANY };

/** The messages that came for the requests, the ready line first. */
async function ask(folder: string, args: readonly string[], requests: readonly object[]): Promise<readonly Message[]> {
  const { said } = await runBench([...args, folder], requests);
  return said
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Message);
}

async function runBench(args: readonly string[], requests: readonly object[]) {
  const command = ['--import', 'tsx', repositoryPath('src/cli.ts'), 'bench', '--protocol', ...args];
  const child = spawn(process.execPath, command, { stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.on('error', () => {});
  child.stdin.end(requests.map((request, id) => `${JSON.stringify({ id, ...request })}\n`).join(''));
  const [said, complaint] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { said, complaint };
}

async function tinyFolder(t: TestContext): Promise<string> {
  const { folder } = await writeTinyModel(t);
  return folder;
}

test('it says where it runs and how it decodes; runs of many steps give the tokens of single steps', async (t) => {
  const folder = await tinyFolder(t);
  const [ready, single] = await ask(folder, [], [REQUEST]);
  const [, loop] = await ask(folder, ['--decode-loop', '--device', 'cpu'], [REQUEST]);
  assert.equal(ready?.ready, true);
  assert.equal(ready?.device, 'cpu');
  assert.equal(ready?.precision, 'fp32');
  const tokens = single?.tokens as readonly (readonly number[])[];
  assert.deepEqual(
    tokens.map((row) => row.length),
    MANY.map(() => 20),
  );
  assert.deepEqual(loop?.tokens, tokens);
});

test('the time to the first token is said where it is asked for, and the tokens are the same', async (t) => {
  const folder = await tinyFolder(t);
  const requests = [REQUEST, { ...REQUEST, firstToken: true }];
  const [, plain, streamed] = await ask(folder, ['--decode-loop'], requests);
  assert.equal(plain?.firstTokenSeconds, undefined);
  const [first, all] = [Number(streamed?.firstTokenSeconds), Number(streamed?.seconds)];
  assert.ok(first > 0 && first < all, `${first} of ${all} s`);
  assert.deepEqual(streamed?.tokens, plain?.tokens);
});

test('a request that fails is answered with why, and the next one is served', async (t) => {
  const folder = await tinyFolder(t);
  const wrong = { ...REQUEST, sourceIds: [[5, 6_000_000, 1]] };
  const [, failed, next] = await ask(folder, ['--decode-loop'], [wrong, REQUEST]);
  assert.equal(failed?.id, 0);
  assert.match(String(failed?.unsupported), /./);
  assert.equal(next?.id, 1);
  assert.equal(next?.unsupported, undefined);
});

test('what it cannot do is refused before a model is read', async () => {
  const refusals = [
    { args: ['--device', 'tpu', 'nowhere'], message: /--device cpu\|cuda/ },
    { args: ['--precision', 'fp8', 'nowhere'], message: /--precision fp32\|int8\|fp16/ },
    { args: ['--decode-loop', '--precision', 'int8', 'nowhere'], message: /Expected fp32 or fp16 .* int8 came/ },
    { args: ['--device', 'cuda', '--precision', 'int8', 'nowhere'], message: /Expected fp32 or fp16 .* int8 came/ },
  ];
  for (const { args, message } of refusals) {
    const { said, complaint } = await runBench(args, []);
    assert.equal(said, '');
    assert.match(complaint, message);
  }
});
