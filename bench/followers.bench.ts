/**
 * How long followers of a run hold the thread that serves: 20 connect at once to a run that is over and read it whole.
 *
 *     npx tsx bench/followers.bench.ts
 *
 * The server is a process of its own with the probe of the load benchmark in it, which measures its event loop; so is
 * the machine's noise, while nothing is asked. Beside the wall clock's delays, which other processes make longer, stands
 * the processor time of the longest turn. Every follower must get every event.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { print } from 'graphql';
import { WebSocket } from 'ws';
import { ChildServer } from '../src/bench/child-server.ts';
import type { ProbeReading } from '../src/bench/event-loop-probe.ts';
import { LIVE_EFFORT, RunStatistics } from '../src/evaluation/statistics/run-statistics.ts';
import { finish } from '../src/evaluation/work.ts';
import { startWorker } from '../src/runtime/start-worker.ts';
import { Database } from '../src/storage/database.ts';
import type { StoredOutput } from '../src/storage/evaluation-rows.ts';
import { EvaluationStore } from '../src/storage/evaluation-store.ts';
import { EvaluationEventsDocument } from '../test/generated/operations.ts';

const ROUNDS = 5;
const FOLLOWERS = 20;
const SAMPLES = 500;
const VARIANTS = 8;
/** As long as a round takes about. */
const IDLE_MS = 3000;
/** Of DialogSum's dialogues and summaries, on average. */
const DIALOGUE_LENGTH = 700;
const SUMMARY_LENGTH = 110;

function textOf(length: number, seed: number): string {
  return `#Person1#: number ${seed}, please. `.repeat(Math.ceil(length / 30)).slice(0, length);
}

function outputOf(variant: number, sample: number): StoredOutput {
  const score = (part: number) => ({
    precision: 1 / (sample + part),
    recall: 1 / (part + 2),
    fmeasure: 1 / (part + 3),
  });
  return {
    label: `variant ${variant}`,
    summary: textOf(SUMMARY_LENGTH, sample),
    completionTokens: 25,
    latencyMs: 100.5,
    truncated: false,
    warnings: [],
    rouge: { rouge1: score(1), rouge2: score(2), rougeL: score(3), rougeLsum: score(4) },
  };
}

/** Writes a run that is over, and returns its id. */
async function writeRun(folder: string): Promise<string> {
  const database = await Database.open({ folder, startWorker, onError: console.error });
  const store = new EvaluationStore(database);
  const variants = Array.from({ length: VARIANTS }, (_, variant) => ({ label: `variant ${variant}`, adapters: [] }));
  const common = { dataset: 'everyday', split: 'test', fingerprint: '', signature: 'a run of the benchmark' };
  const run = {
    ...common,
    asked: null,
    request: { variants: variants.map((variant) => ({ ...variant, model: { id: 'gist-mini' } })) },
    samplesTotal: SAMPLES,
  };
  const { run: evaluation } = await store.create(run, async () => {});
  await store.begin(evaluation.id);
  const statistics = new RunStatistics({ labels: variants.map(({ label }) => label), sampleCount: SAMPLES });
  for (let index = 0; index < SAMPLES; index++) {
    const outputs = variants.map((_, variant) => outputOf(variant, index));
    statistics.add(
      index,
      outputs.map(({ rouge }) => rouge),
    );
    const text = textOf(DIALOGUE_LENGTH, index);
    const references = [1, 2, 3].map((seed) => textOf(SUMMARY_LENGTH, seed));
    await store.addSample(evaluation.id, { index, sampleId: `sample ${index}`, text, references, outputs });
  }
  const summary = finish(statistics.summarize(LIVE_EFFORT));
  const measured = summary.variants.map((variant) => ({ ...variant, meanSummaryTokens: 25, tokensPerSecond: 300 }));
  await store.finish(evaluation.id, { ...summary, variants: measured });
  await database.close();
  return evaluation.id;
}

/** Resolves with the number of events when the run has been told. It does not parse them: this machine's processors are the server's too. */
function follow(url: string, id: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/graphql`, 'graphql-transport-ws');
    const send = (message: object): void => socket.send(JSON.stringify(message));
    let eventCount = 0;
    socket.on('error', reject);
    socket.on('open', () => send({ type: 'connection_init' }));
    socket.on('message', (bytes: Buffer) => {
      const [, type] = /"type":"(\w+)"/.exec(bytes.subarray(0, 100).toString()) ?? [];
      if (type === 'connection_ack') {
        send({ id: 'run', type: 'subscribe', payload: { query: print(EvaluationEventsDocument), variables: { id } } });
      } else if (type === 'next' && !bytes.includes('"errors"')) eventCount++;
      else {
        socket.close();
        if (type === 'complete') resolve(eventCount);
        else reject(new Error(`Expected events, ${bytes.toString()} came.`));
      }
    });
  });
}

async function measure(server: ChildServer, work: () => Promise<unknown>): Promise<ProbeReading> {
  await server.read({ restart: true });
  await work();
  return await server.read({ restart: true });
}

function numbersOf({ eventLoopDelay: { p99Ms, maxMs }, longestTurnMs = Number.NaN }: ProbeReading): readonly number[] {
  return [p99Ms, maxMs, longestTurnMs];
}

function row(cells: readonly (string | number)[]): string {
  return `| ${cells.map((cell) => (typeof cell === 'number' ? cell.toFixed(1) : cell)).join(' | ')} |`;
}

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'gistql-followers-'));
  let server: ChildServer | undefined;
  try {
    const id = await writeRun(folder);
    process.env.GISTQL_DATA_DIR = folder;
    server = await ChildServer.start(undefined, new AbortController().signal);
    const { url } = server;
    // the code of a server that has been up for a minute is compiled, and its database open
    await follow(url, id);
    console.log(`${FOLLOWERS} followers of ${SAMPLES} samples of ${VARIANTS} variants; ms\n`);
    const measures = ['delay p99', 'delay greatest', 'longest turn'];
    console.log(
      row(['round', ...['idle', 'followed'].flatMap((when) => measures.map((name) => `${when}: ${name}`)), 's']),
    );
    console.log(row(['---', ...Array.from({ length: 7 }, () => '---:')]));
    for (let round = 1; round <= ROUNDS; round++) {
      const idle = await measure(server, () => delay(IDLE_MS));
      const start = performance.now();
      let counts: readonly number[] = [];
      const followed = await measure(server, async () => {
        counts = await Promise.all(Array.from({ length: FOLLOWERS }, () => follow(url, id)));
      });
      const seconds = (performance.now() - start) / 1000;
      if (counts.some((count) => count !== SAMPLES + 2)) throw new Error(`Expected every event, ${counts} came.`);
      console.log(row([`${round}`, ...numbersOf(idle), ...numbersOf(followed), seconds]));
    }
  } finally {
    await server?.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

await main();
