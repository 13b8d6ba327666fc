/** A training from the command line: what it prints, what it leaves, and how it goes on after signals. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { lastFirst } from '../support/cleanup.ts';
import { repositoryPath } from '../support/oracle.ts';
import { makeTrainingPlace, TRAINING_ROWS } from '../support/training-server.ts';

interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

type Environment = Readonly<Record<string, string>>;

const settings = ['--dataset', 'words', '--template', 'plain', '--max-source-tokens', '32', '--batch-size', '4'];
/** Long enough to be interrupted. */
const long = [...settings, '--output', 'tuned', '--rank', '2', '--epochs', '100', '--json'];
const LONG_STEPS = (100 * TRAINING_ROWS) / 4;

function start(t: TestContext, environment: Environment, args: readonly string[]): ChildProcess {
  const child = spawn(process.execPath, ['--import', 'tsx', repositoryPath('src/cli.ts'), 'finetune', ...args], {
    env: { ...process.env, DATABASE_URL: '', GISTQL_THREADS: '1', GISTQL_DEVICE: 'cpu', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  return child;
}

/** `signal` is sent when the first steps are shown. */
async function finetune(
  t: TestContext,
  environment: Environment,
  args: readonly string[],
  signal?: NodeJS.Signals,
): Promise<Outcome> {
  const child = start(t, environment, args);
  assert.ok(child.stdout !== null && child.stderr !== null);
  let err = '';
  let isSent = signal === undefined;
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    err += chunk;
    if (isSent || !/^[1-9]\d* of \d+ steps/m.test(err)) return;
    isSent = true;
    child.kill(signal);
  });
  const [out, [code]] = await Promise.all([text(child.stdout), once(child, 'close')]);
  return { code, out, err };
}

test('a model is trained whole: progress on stderr, a report on stdout, the folder where models are', async (t) => {
  const place = await makeTrainingPlace(lastFirst(t));
  const args = [...settings, '--output', 'whole', '--method', 'full', '--max-steps', '3', '--validation-split', 'test'];
  const { code, out, err } = await finetune(t, place.environment, args);
  assert.equal(code, 0, err);
  assert.match(err, /^Loads dir:tiny\.\nTraining [\da-f-]{36}: 3 steps, to be whole\.$/m);
  assert.match(err, /^\d of 3 steps, epoch 0\.\d\d, loss \d+\.\d{4}, learning rate [\d.e-]+, \d+ tokens\/s/m);
  assert.match(out, /^Training [\da-f-]{36} succeeded: 3 of 3 steps in [\d.]+ s\.$/m);
  assert.match(out, /^Trained (\d+) of \1 parameters \(100\.00 %\)\.$/m);
  assert.match(out, /^Least loss on the validation split \d+\.\d{4}\.\nIn service as model whole \(dir:whole\)\.$/m);
  await readFile(join(place.modelsDir, 'whole', 'model.safetensors'));
});

test('cancelled by Ctrl-C, then left at SIGTERM, a training goes on each time, and its adapter stays registered', async (t) => {
  const place = await makeTrainingPlace(lastFirst(t));
  const cancelled = await finetune(t, place.environment, long, 'SIGINT');
  assert.equal(cancelled.code, 130, cancelled.err);
  const first = JSON.parse(cancelled.out) as { id: string; status: string; step: number };
  assert.equal(first.status, 'cancelled');
  assert.match(cancelled.err, new RegExp(`^Cancels the run: .* --resume ${first.id} goes on from there\\.$`, 'm'));
  const again = ['--resume', first.id, '--json'];
  const left = await finetune(t, place.environment, again, 'SIGTERM');
  assert.deepEqual([left.code, left.out], [143, ''], left.err);
  assert.match(left.err, /^Left training \S+ unfinished/m);
  const shown = [...left.err.matchAll(/^(\d+) of \d+ steps/gm)].map(([, step]) => Number(step));
  assert.ok((shown[0] ?? 0) > first.step, left.err);
  const ended = await finetune(t, place.environment, again);
  assert.equal(ended.code, 0, ended.err);
  const last = JSON.parse(ended.out) as { id: string; status: string; step: number };
  assert.deepEqual([last.id, last.status, last.step], [first.id, 'succeeded', LONG_STEPS]);
  const registry = JSON.parse(await readFile(join(place.dataDir, 'adapters.json'), 'utf8')) as {
    adapters: readonly { id: string; source: string }[];
  };
  assert.deepEqual(
    registry.adapters.map(({ id, source }) => [id, source]),
    [['tuned', 'dir:tuned']],
  );
});

test('what is wrong ends it with a message and no result', async (t) => {
  const place = await makeTrainingPlace(lastFirst(t));
  const refusals: readonly (readonly [readonly string[], RegExp])[] = [
    [
      [...settings, '--output', 'made', '--target-modules', 'none'],
      /^Expected targetModules to be ends of paths .*"none" came/m,
    ],
    [['--resume', 'none'], /^Expected the id of a training, there is none of "none"\./m],
    [
      [...settings, '--output', 'made', '--model', 'tiny2'],
      /^Expected --model to be dir:NAME, embedded:NAME, hub:OWNER\/NAME or tiny/m,
    ],
  ];
  for (const [args, message] of refusals) {
    const { code, out, err } = await finetune(t, place.environment, args);
    assert.deepEqual([code, out], [1, ''], err);
    assert.match(err, message);
    assert.doesNotMatch(err, /^ +at /m);
  }
});
