/**
 * What a training costs those who are served beside it: the same requests with and without one, turn by turn, against
 * one server in a process of its own.
 *
 *     npx tsx bench/beside-training.bench.ts
 *
 * Summaries of the embedded model by greedy search, some clients at a time; the training adapts the embedded model, too,
 * with as many threads as the model has.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { ChildServer } from '../src/bench/child-server.ts';
import { readEveryday } from '../test/support/everyday.ts';
import { median, rangeOf } from './rounds.ts';

const ROUNDS = 4;
const ROUND_MS = 10_000;
const CLIENTS = 4;

interface Measured {
  readonly tokensPerSecond: number;
  /** Of each request, ascending. */
  readonly milliseconds: readonly number[];
}

async function ask<T>(url: string, query: string, variables: unknown = {}): Promise<T> {
  const response = await fetch(`${url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = (await response.json()) as { data?: T; errors?: readonly { message: string }[] };
  if (data === undefined || errors !== undefined) throw new Error(errors?.[0]?.message ?? 'no answer');
  return data;
}

const SUMMARIZE = `mutation ($text: String!) { summarize(input: { text: $text, decoding: { minNewTokens: 40, maxNewTokens: 40 } }) {
  generation { usage { completionTokens } } } }`;

async function measure(url: string, texts: readonly string[]): Promise<Measured> {
  const milliseconds: number[] = [];
  let tokens = 0;
  const begun = performance.now();
  const client = async (first: number): Promise<void> => {
    for (let request = first; performance.now() - begun < ROUND_MS; request += CLIENTS) {
      const start = performance.now();
      const { summarize } = await ask<{
        readonly summarize: { readonly generation: { readonly usage: { readonly completionTokens: number } } };
      }>(url, SUMMARIZE, { text: texts[request % texts.length] });
      milliseconds.push(performance.now() - start);
      tokens += summarize.generation.usage.completionTokens;
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, (_, first) => client(first)));
  const seconds = (performance.now() - begun) / 1000;
  return { tokensPerSecond: tokens / seconds, milliseconds: milliseconds.sort((left, right) => left - right) };
}

const STATE = 'query ($id: ID!) { training(id: $id) { status step } }';

interface TrainingState {
  readonly training: { readonly status: string; readonly step: number };
}

async function untilStep(url: string, id: string, after: number): Promise<void> {
  for (;;) {
    const { training } = await ask<TrainingState>(url, STATE, { id });
    if (training.status === 'FAILED') throw new Error('The training failed.');
    if (training.step > after) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function untilCancelled(url: string, id: string): Promise<void> {
  await ask(url, 'mutation ($id: ID!) { cancelTraining(id: $id) { id } }', { id });
  while ((await ask<TrainingState>(url, STATE, { id })).training.status !== 'CANCELLED') {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const START = `mutation { startTraining(input: { model: "gist-mini", method: FULL, outputId: "beside", dataset: "everyday", maxSteps: 1000000 }) { id } }`;

function describe(name: string, rounds: readonly Measured[]): string {
  const all = rounds.flatMap(({ milliseconds }) => milliseconds).sort((left, right) => left - right);
  const at = (share: number): string => (all[Math.floor(share * (all.length - 1))] ?? Number.NaN).toFixed(0);
  const speed = median(rounds.map(({ tokensPerSecond }) => tokensPerSecond)).toFixed(0);
  return `${name}: ${speed} new tokens/s, a request ${at(0.5)} ms (p95 ${at(0.95)}), ${all.length} requests`;
}

const temporary = await mkdtemp(join(tmpdir(), 'gistql-beside-'));
process.env.GISTQL_DATA_DIR = temporary;
process.env.GISTQL_MODELS_DIR = join(temporary, 'models');
const server = await ChildServer.start('embedded:gist-mini', new AbortController().signal);
try {
  const { url } = server;
  const texts = readEveryday('test').map(({ dialogue }) => dialogue);
  const { startTraining } = await ask<{ readonly startTraining: { readonly id: string } }>(url, START);
  const { id } = startTraining;
  const [alone, beside]: [Measured[], Measured[]] = [[], []];
  const steps: number[] = [];
  await untilStep(url, id, 1);
  for (let round = 0; round < ROUNDS; round++) {
    const from = (await ask<TrainingState>(url, STATE, { id })).training.step;
    beside.push(await measure(url, texts));
    steps.push((await ask<TrainingState>(url, STATE, { id })).training.step - from);
    await untilCancelled(url, id);
    alone.push(await measure(url, texts));
    await ask(url, 'mutation ($id: ID!) { resumeTraining(id: $id) { id } }', { id });
    await untilStep(url, id, from + (steps.at(-1) ?? 0));
  }
  await untilCancelled(url, id);
  console.log({ processor: cpus()[0]?.model, processors: availableParallelism(), node: process.versions.node });
  console.log(describe('without a training', alone));
  console.log(describe('beside a training', beside));
  const ratios = beside.map(({ tokensPerSecond }, round) => tokensPerSecond / (alone[round]?.tokensPerSecond ?? 1));
  console.log(
    `beside / without: ${median(ratios).toFixed(2)} (rounds: ${rangeOf(ratios)}); steps of it in a round: ${steps.join(', ')}`,
  );
} finally {
  await server.stop();
  await rm(temporary, { recursive: true, force: true });
}
