/** `gistql evaluate` as a process, as a user starts it. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { parse } from 'csv-parse/sync';
import { writeDataset } from '../support/dataset-files.ts';
import { tinyRows } from '../support/evaluation-server.ts';
import { repositoryPath } from '../support/oracle.ts';
import { copyDatabase } from '../support/test-database.ts';
import { writeTinyAdapter } from '../support/tiny-adapter.ts';
import { temporaryFolder, writeTinyModel } from '../support/tiny-model.ts';

type Environment = Readonly<Record<string, string>>;

interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

interface Result {
  readonly id: string;
  readonly status: string;
  readonly samplesTotal: number;
  readonly samplesDone: number;
  readonly signature: string;
  readonly variants: readonly {
    readonly label: string;
    readonly meanSummaryTokens: number;
    readonly metrics: readonly { readonly metric: string; readonly mean: number }[];
  }[];
  readonly comparisons: readonly { readonly baseline: string; readonly candidate: string; readonly pValue: number }[];
}

interface ExportedSample {
  readonly index: number;
  readonly outputs: readonly {
    readonly label: string;
    readonly rouge: Record<string, { readonly fmeasure: number }>;
  }[];
}

/** The embedded model, and an empty data folder. */
async function makeEnvironment(t: TestContext): Promise<Environment> {
  const dataDir = await temporaryFolder(t);
  await copyDatabase(dataDir);
  return { GISTQL_DATA_DIR: dataDir };
}

/** The tiny model with two adapters, and a dataset of so many rows. */
async function makeTiny(t: TestContext, rowCount: number): Promise<Environment> {
  const { parent } = await writeTinyModel(t);
  const [adaptersDir, datasetsDir] = [await temporaryFolder(t), await temporaryFolder(t)];
  await writeTinyAdapter(adaptersDir, 'one', { seed: 1, spread: 1 });
  await writeTinyAdapter(adaptersDir, 'two', { seed: 2, spread: 0.7, rank: 2 });
  await writeDataset(datasetsDir, 'tiny', { 'test.jsonl': tinyRows(rowCount), 'train.jsonl': tinyRows(2, 2) });
  return {
    ...(await makeEnvironment(t)),
    GISTQL_MODEL: 'dir:tiny',
    GISTQL_MODELS_DIR: parent,
    GISTQL_ADAPTERS_DIR: adaptersDir,
    GISTQL_DATASETS_DIR: datasetsDir,
  };
}

function start(t: TestContext, environment: Environment, args: readonly string[]): ChildProcess {
  const child = spawn(process.execPath, ['--import', 'tsx', repositoryPath('src/cli.ts'), 'evaluate', ...args], {
    env: { ...process.env, DATABASE_URL: '', GISTQL_THREADS: '2', GISTQL_DEVICE: 'cpu', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  return child;
}

/** `seen` is called with what is on stderr so far, whenever more comes. */
async function outcomeOf(child: ChildProcess, seen: (err: string) => void = () => {}): Promise<Outcome> {
  assert.ok(child.stdout !== null && child.stderr !== null);
  let err = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    err += chunk;
    seen(err);
  });
  const [out, [code]] = await Promise.all([text(child.stdout), once(child, 'close')]);
  return { code, out, err };
}

function evaluate(t: TestContext, environment: Environment, args: readonly string[]): Promise<Outcome> {
  return outcomeOf(start(t, environment, args));
}

/** Sends a signal when the first sample is scored. */
function interrupt(child: ChildProcess, signal: NodeJS.Signals): Promise<Outcome> {
  let isSent = false;
  return outcomeOf(child, (err) => {
    if (isSent || !/^\d+ of \d+ samples/m.test(err)) return;
    isSent = true;
    child.kill(signal);
  });
}

function resultOf({ code, out, err }: Outcome): Result {
  assert.equal(code, 0, err);
  return JSON.parse(out) as Result;
}

const shortVariants = [
  ...['--variant', 'label=short,maxNewTokens=6'],
  ...['--variant', 'label=beams,beams=2,maxNewTokens=8', '--variant', 'label=one-shot,shots=1,maxNewTokens=8'],
];

test('tables on stdout, progress on stderr, samples in files', async (t) => {
  const environment = await makeEnvironment(t);
  const folder = await temporaryFolder(t);
  const files = [join(folder, 'samples.jsonl'), join(folder, 'samples.csv')];
  const { code, out, err } = await evaluate(t, environment, [
    ...['--dataset', 'everyday', '--limit', '3', ...shortVariants],
    ...files.flatMap((file) => ['--export', file]),
  ]);
  assert.equal(code, 0, err);
  assert.match(err, /^Evaluation [\da-f-]{36}: 3 samples of everyday\/test\.$/m);
  assert.match(err, /^\d of 3 samples/m);
  assert.match(out, /^\| variant +\| +ROUGE-1 \| +ROUGE-2 \| +ROUGE-L \| +ROUGE-Lsum \| tokens \|$/m);
  assert.match(out, /^\| one-shot \|( +0\.\d{4} \[0\.\d{4}, [01]\.\d{4}\] \|){4} +[678]\.\d \|$/m);
  assert.match(out, /^\| against short \| metric +\| +difference \| p \(Holm\) \| wins \| losses \| ties \|$/m);
  assert.equal(out.match(/^\| (beams|one-shot) +\| ROUGE-(1|2|L|Lsum) +\| +[+-]0\.\d{4} \[.*\] \|/gm)?.length, 8);
  assert.match(out, /Holm over 8 comparisons\./);
  assert.match(
    out,
    /^Evaluation [\da-f-]{36} succeeded: 3 of 3 samples of everyday\/test, \d+ new tokens in [\d.]+ s\.$/m,
  );
  assert.match(out, /^Signature: gistql .* first 3 \| .*shots=none.*shots=[\da-f]{16}/m);

  const [jsonl = '', csv = ''] = await Promise.all(files.map((file) => readFile(file, 'utf8')));
  const samples = jsonl
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as ExportedSample);
  assert.deepEqual(
    samples.map(({ index }) => index),
    [0, 1, 2],
  );
  const rows = parse(csv, { columns: true }) as readonly Record<string, string>[];
  assert.deepEqual(
    rows.map(({ index, label, rougeLFmeasure }) => [Number(index), label, Number(rougeLFmeasure)]),
    samples.flatMap(({ index, outputs }) => outputs.map(({ label, rouge }) => [index, label, rouge.rougeL?.fmeasure])),
  );
});

test('--json prints one object; a key brings its run back, and belongs to one request', async (t) => {
  const environment = await makeEnvironment(t);
  const folder = await temporaryFolder(t);
  const file = join(folder, 'samples.jsonl');
  const drawn = ['--limit', '4', '--sample-seed', '5', '--references', '0,1', '--no-stemmer', ...shortVariants];
  const args = ['--dataset', 'everyday', ...drawn, '--idempotency-key', 'mine', '--json', '--export', file];
  const result = resultOf(await evaluate(t, environment, args));
  assert.deepEqual([result.status, result.samplesDone, result.samplesTotal], ['succeeded', 4, 4]);
  assert.match(result.signature, /stemmer=no best-of=summary1\+summary2 .* drawn-by-5 4 /);
  assert.deepEqual(
    result.variants.map(({ label }) => label),
    ['short', 'beams', 'one-shot'],
  );
  assert.equal(result.comparisons.length, 8);
  const samples = (await readFile(file, 'utf8'))
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as ExportedSample);
  for (const [place, { metrics }] of result.variants.entries()) {
    for (const { metric, mean } of metrics) {
      const scores = samples.map(({ outputs }) => outputs[place]?.rouge[metric]?.fmeasure ?? Number.NaN);
      assert.ok(Math.abs(mean - scores.reduce((sum, score) => sum + score, 0) / samples.length) < 1e-12);
    }
  }

  assert.deepEqual(resultOf(await evaluate(t, environment, args)), result);
  const other = await evaluate(t, environment, [...args, '--limit', '5']);
  assert.equal(other.code, 1);
  assert.equal(other.out, '');
  assert.match(other.err, /Expected a new idempotencyKey, .* it belongs to evaluation/);
});

test('models and adapters come from their folders, for the run alone', async (t) => {
  const environment = await makeTiny(t, 6);
  const decoding = 'template=plain,minNewTokens=5,maxNewTokens=5';
  const variants = [
    `label=base,${decoding}`,
    `label=one,adapters=dir:one,${decoding}`,
    `label=blend,model=dir:tiny,adapters=dir:one:0.5+dir:two,shots=2,${decoding}`,
    `label=embedded,model=embedded:gist-mini,maxNewTokens=5`,
  ].flatMap((spec) => ['--variant', spec]);
  const file = join(await temporaryFolder(t), 'samples.jsonl');
  const outcome = await evaluate(t, environment, ['--dataset', 'tiny', ...variants, '--json', '--export', file]);
  const { signature } = resultOf(outcome);
  assert.match(signature, /adapters=[\da-f]{16}\/[\da-f]{16}\*0\.5\+[\da-f]{16}\/[\da-f]{16}\*1 .* shots=[\da-f]{16}/);
  const first = JSON.parse((await readFile(file, 'utf8')).split('\n')[0] ?? '') as {
    readonly outputs: readonly { readonly summary: string }[];
  };
  assert.equal(new Set(first.outputs.map(({ summary }) => summary)).size, 4);
  const registry = await readFile(join(environment.GISTQL_DATA_DIR ?? '', 'adapters.json'), 'utf8');
  assert.deepEqual((JSON.parse(registry) as { adapters: unknown }).adapters, []);
});

test('what is wrong ends it with a message and no result', async (t) => {
  const environment = await makeTiny(t, 2);
  const refusals: readonly (readonly [readonly string[], RegExp])[] = [
    [['--dataset', 'none', '--variant', 'label=a'], /^Expected dataset to be one of everyday, tiny; "none" came\./m],
    [
      ['--dataset', 'tiny', '--variant', 'label=a', '--variant', 'label=a'],
      /^Expected each variant to have a label of/m,
    ],
    [['--dataset', 'tiny', '--variant', 'beams=99'], /Expected numBeams to be a whole number from 1 to 32, 99 came/],
    [['--dataset', 'tiny', '--variant', 'beam=4'], /^--variant "beam=4": expected each name to be one of/m],
    [
      ['--dataset', 'tiny', '--variant', 'label=a', '--export', 'no/where.csv'],
      /^Expected --export to name a file of/m,
    ],
  ];
  for (const [args, message] of refusals) {
    const { code, out, err } = await evaluate(t, environment, args);
    assert.equal(code, 1, err);
    assert.equal(out, '');
    assert.match(err, message);
    assert.doesNotMatch(err, /^ +at /m);
  }
});

test('a data folder that a server has is left alone', async (t) => {
  const environment = await makeTiny(t, 2);
  const server = spawn(process.execPath, ['--import', 'tsx', repositoryPath('src/main.ts')], {
    env: {
      ...process.env,
      DATABASE_URL: '',
      GISTQL_DEVICE: 'cpu',
      PORT: '0',
      GISTQL_LOG_LEVEL: 'silent',
      GISTQL_THREADS: '2',
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => server.kill('SIGKILL'));
  const [line] = (await once(server.stdout, 'data')) as [Buffer];
  const [url = ''] = /http:\S+/.exec(line.toString()) ?? [];
  const body = JSON.stringify({ query: '{ evaluations { totalCount } }' });
  const answer = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  assert.equal(answer.status, 200);
  const { code, err } = await evaluate(t, environment, ['--dataset', 'tiny', '--variant', 'adapters=dir:one']);
  assert.equal(code, 1);
  assert.match(err, /^Expected a data folder of this process's own, another one holds .*database\.lock\. Stop it/m);
  await assert.rejects(readFile(join(environment.GISTQL_DATA_DIR ?? '', 'adapters.json')), { code: 'ENOENT' });
});

const manyRows = 600;
const longRun = ['--dataset', 'tiny', '--variant', 'label=base,adapters=none,template=plain,maxNewTokens=4'];

test('Ctrl-C cancels the run and prints what was scored', async (t) => {
  const environment = await makeTiny(t, manyRows);
  const { code, out, err } = await interrupt(start(t, environment, longRun), 'SIGINT');
  assert.equal(code, 130, err);
  assert.match(err, /^Cancels the run: .* same --idempotency-key goes on with it\.$/m);
  const [, scored = ''] = /cancelled: (\d+) of 600 samples/.exec(out) ?? [];
  assert.ok(Number(scored) > 0 && Number(scored) < manyRows, out);
  assert.match(out, /^\| base +\| +0\.\d{4} \[/m);
});

test('a run that was left goes on with the same key, and its adapters are there', async (t) => {
  const environment = await makeTiny(t, manyRows);
  const args = [...longRun, '--variant', 'label=one,adapters=dir:one,template=plain,maxNewTokens=4'];
  const keyed = [...args, '--idempotency-key', 'long', '--json'];
  const left = await interrupt(start(t, environment, keyed), 'SIGTERM');
  assert.equal(left.code, 143, left.err);
  assert.equal(left.out, '');
  const [, id = ''] = /^Left evaluation (\S+) unfinished/m.exec(left.err) ?? [];
  const result = resultOf(await evaluate(t, environment, keyed));
  assert.deepEqual([result.id, result.status, result.samplesDone], [id, 'succeeded', manyRows]);
});
