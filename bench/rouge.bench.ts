/**
 * ROUGE-1, -2, -L and -Lsum, stemmed: pairs a second beside the Python package, and how long one call holds the event loop.
 *
 *     python3 -m venv peer && peer/bin/pip install rouge-score==0.1.2
 *     ROUGE_PYTHON=peer/bin/python npx tsx bench/rouge.bench.ts
 *
 * Both score the same pairs, one process after the other in every round, and must agree on the sum of all numbers.
 * Without ROUGE_PYTHON only our own numbers are printed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { createInterface } from 'node:readline';
import { gunzipSync } from 'node:zlib';
import { RougeScorer, type RougeScores } from '../src/evaluation/rouge/rouge.ts';
import { WorkTurns } from '../src/evaluation/work.ts';
import { readJsonFile, repositoryPath, sharedPath } from '../test/support/oracle.ts';
import { seededNumbers } from '../test/support/seeded-numbers.ts';

const ROUNDS = 5;
const SEED = 1;

interface Pair {
  readonly prediction: string;
  readonly reference: string;
}

/** One round: all pairs scored once. */
interface Round {
  readonly seconds: number;
  /** Of precision, recall and F-measure of all metrics: what shows that the same was computed. */
  readonly sum: number;
}

const PEER = `
import importlib.metadata, json, platform, sys, time
from rouge_score import rouge_scorer
pairs = json.loads(sys.stdin.readline())
scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
versions = {name: importlib.metadata.version(name) for name in ("rouge-score", "nltk")}
print(json.dumps({"Python": platform.python_version(), **versions}), flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    scores = [scorer.score(pair["reference"], pair["prediction"]) for pair in pairs]
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "sum": sum(sum(score) for one in scores for score in one.values())}), flush=True)
`;

import { median } from './rounds.ts';

/** The Python package in a process of its own, which scores when it is told to. */
class Peer {
  private constructor(
    private readonly child: ChildProcess,
    private readonly lines: AsyncIterator<string>,
    readonly versions: Readonly<Record<string, string>>,
  ) {}

  static async start(python: string, pairs: readonly Pair[]): Promise<Peer> {
    const child = spawn(python, ['-c', PEER], { stdio: ['pipe', 'pipe', 'inherit'] });
    await once(child, 'spawn');
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    child.stdin.write(`${JSON.stringify(pairs)}\n`);
    return new Peer(child, lines, JSON.parse(await nextLine(lines)) as Record<string, string>);
  }

  async round(): Promise<Round> {
    this.child.stdin?.write('round\n');
    return JSON.parse(await nextLine(this.lines)) as Round;
  }

  end(): void {
    this.child.stdin?.end();
  }
}

async function nextLine(lines: AsyncIterator<string>): Promise<string> {
  const { value, done } = await lines.next();
  if (done === true) throw new Error('Expected an answer of ROUGE_PYTHON, it ended: is rouge-score installed there?');
  return value;
}

function readPairs(): { readonly name: string; readonly pairs: readonly Pair[] } {
  const oracle = sharedPath('oracle/rouge/pairs.jsonl.gz');
  if (existsSync(oracle)) {
    const lines = gunzipSync(readFileSync(oracle)).toString().trim().split('\n');
    const pairs = lines.map((line) => {
      const { prediction, reference } = JSON.parse(line) as Pair;
      return { prediction, reference };
    });
    return { name: "the oracle's pairs", pairs };
  }
  const { pairs } = readJsonFile<{ readonly pairs: readonly Pair[] }>(repositoryPath('test/fixtures/rouge.json'));
  const repeated = Array.from({ length: 20 }, () => pairs).flat();
  return { name: "the fixture's pairs, 20 times", pairs: repeated };
}

function sumOf({ rouge1, rouge2, rougeL, rougeLsum }: RougeScores): number {
  let sum = 0;
  for (const { precision, recall, fmeasure } of [rouge1, rouge2, rougeL, rougeLsum])
    sum += precision + recall + fmeasure;
  return sum;
}

function ourRound(scorer: RougeScorer, pairs: readonly Pair[]): Round {
  const start = performance.now();
  const scores = pairs.map(({ prediction, reference }) => scorer.score({ prediction, references: [reference] }));
  const seconds = (performance.now() - start) / 1000;
  return { seconds, sum: scores.reduce((sum, score) => sum + sumOf(score), 0) };
}

function rate(pairs: readonly Pair[], rounds: readonly Round[]): string {
  return (pairs.length / median(rounds.map(({ seconds }) => seconds))).toFixed(0);
}

async function compareSpeed(): Promise<void> {
  const { name, pairs } = readPairs();
  const python = process.env.ROUGE_PYTHON;
  const peer = python === undefined ? undefined : await Peer.start(python, pairs);
  const scorer = new RougeScorer(new WorkTurns());
  const [ours, theirs]: [Round[], Round[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    ours.push(ourRound(scorer, pairs));
    if (peer !== undefined) theirs.push(await peer.round());
  }
  peer?.end();
  const facts = { processor: cpus()[0]?.model ?? 'unknown', processors: availableParallelism() };
  const versions = { 'Node.js': process.versions.node, ...peer?.versions };
  console.log(JSON.stringify({ ...facts, ...versions, pairs: `${pairs.length}, ${name}`, rounds: ROUNDS }), '\n');
  console.log(
    '| all four metrics, stemmed | pairs/s (median) | ratio | ratio over rounds |\n| --- | --- | --- | --- |',
  );
  if (peer === undefined) {
    console.log(`| GistQL | ${rate(pairs, ours)} | ROUGE_PYTHON is not set | |\n`);
    return;
  }
  const ratios = ours.map(({ seconds }, round) => (theirs[round]?.seconds ?? Number.NaN) / seconds);
  const range = `${Math.min(...ratios).toFixed(1)} - ${Math.max(...ratios).toFixed(1)}`;
  console.log(`| GistQL | ${rate(pairs, ours)} | ${median(ratios).toFixed(1)} | ${range} |`);
  console.log(`| rouge-score | ${rate(pairs, theirs)} | 1 | |\n`);
  const difference = Math.abs((ours[0]?.sum ?? 0) - (theirs[0]?.sum ?? Number.NaN));
  console.log(`Difference of the sums of all numbers (rounding of the sums): ${difference.toExponential(1)}\n`);
}

function randomText(random: () => number, wordCount: number, lineWords: number): string {
  let text = '';
  for (let index = 0; index < wordCount; index++) {
    const word = Math.floor(random() ** 2 * 5000).toString(26);
    text += `${word}ing${index % lineWords === lineWords - 1 ? '\n' : ' '}`;
  }
  return text;
}

interface Turns {
  readonly longestMs: number;
  readonly totalMs: number;
}

/** Times the turns of the event loop while something is done in turns. */
async function measureTurns(work: () => Promise<unknown>): Promise<Turns> {
  let longestMs = 0;
  let running = true;
  const start = performance.now();
  let last = start;
  const turn = (): void => {
    const now = performance.now();
    longestMs = Math.max(longestMs, now - last);
    last = now;
    if (running) setImmediate(turn);
  };
  setImmediate(turn);
  await work();
  running = false;
  return { longestMs, totalMs: performance.now() - start };
}

/** As many turns of a millisecond as a call takes, doing nothing: what the machine adds by itself. */
async function idleTurns(): Promise<void> {
  for (let turn = 0; turn < 80; turn++) {
    const start = performance.now();
    while (performance.now() - start < 1);
    await new Promise(setImmediate);
  }
}

async function printTurns(name: string, work: () => Promise<unknown>): Promise<void> {
  const measured: Turns[] = [];
  for (let round = 0; round < 9; round++) measured.push(await measureTurns(work));
  const longest = measured.map(({ longestMs }) => longestMs);
  const total = median(measured.map(({ totalMs }) => totalMs)).toFixed(0);
  console.log(`| ${name} | ${median(longest).toFixed(1)}, ${Math.max(...longest).toFixed(1)} | ${total} |`);
}

async function measureLongTexts(): Promise<void> {
  console.log('| one call in turns, 10,000 words on each side | longest turn, ms: median, worst of 9 | whole, ms |');
  console.log('| --- | --- | --- |');
  const random = seededNumbers(SEED);
  const shapes = {
    'one line each': [20_000, 20_000],
    'lines of 20 words': [20, 20],
    'one line, lines of 20': [20_000, 20],
  };
  for (const [name, [left = 1, right = 1]] of Object.entries(shapes)) {
    const request = { prediction: randomText(random, 10_000, left), references: [randomText(random, 10_000, right)] };
    // a new scorer each time: no stem is remembered
    await printTurns(name, () => new RougeScorer(new WorkTurns()).scoreInTurns(request));
  }
  await printTurns('80 turns of 1 ms that do nothing', idleTurns);
}

await compareSpeed();
await measureLongTexts();
