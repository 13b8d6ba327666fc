/**
 * GistQL beside transformers.js with the same decoder-only model, ids, number of tokens, precision (float32) and threads
 * (2 each), in interleaved rounds: who goes first alternates, round 0 warms up.
 *   npm run build && npx tsx bench/decoder-only.bench.ts MODEL ONNX PACKAGES [ROUNDS]
 * MODEL: a Hugging Face folder; ONNX: a folder with onnx/model.onnx, which optimum 0.1.0 made of it (text-generation-with-
 * past, fp32); PACKAGES: where @huggingface/transformers is installed.
 */
import { availableParallelism, cpus, loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { SeededRandom } from '../src/bench/seeded-random.ts';
import { type Answer, ProtocolProcess } from './protocol-process.ts';
import { median, rangeOf } from './rounds.ts';

interface Row {
  readonly sourceIds: readonly number[];
  readonly newTokens: number;
}

const PROMPT_TOKENS = 256;
const NEW_TOKENS = 64;
const RAGGED_REQUESTS = 48;
const RAGGED_ROWS = 16;
/** Ids of ordinary words in every vocabulary that is served. */
const [FIRST_ID, LAST_ID] = [1000, 20_000];

async function startSystem(name: string, args: readonly string[]): Promise<ProtocolProcess> {
  const options = { command: [process.execPath, ...args], environment: { GISTQL_THREADS: '2' } };
  return (await ProtocolProcess.start(name, options)).process;
}

const random = new SeededRandom(1);

function prompt(length: number): readonly number[] {
  return Array.from({ length }, () => random.whole(FIRST_ID, LAST_ID));
}

/** Log-normal around half of the longest. */
function raggedLength(longest: number): number {
  const normal = Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
  return Math.max(4, Math.min(longest, Math.round((longest / 2) * Math.exp(0.6 * normal))));
}

function workloads(): ReadonlyMap<string, { readonly request: object; readonly tokenCount: number }> {
  const batch = (rows: number): { request: object; tokenCount: number } => ({
    request: {
      batch: rows,
      beams: 1,
      newTokens: NEW_TOKENS,
      sourceIds: Array.from({ length: rows }, () => prompt(PROMPT_TOKENS)),
    },
    tokenCount: rows * NEW_TOKENS,
  });
  const ragged = Array.from(
    { length: RAGGED_REQUESTS },
    (): Row => ({ sourceIds: prompt(raggedLength(PROMPT_TOKENS)), newTokens: raggedLength(NEW_TOKENS) }),
  );
  return new Map([
    ['batch 1', batch(1)],
    ['batch 8', batch(8)],
    [
      'batch 16, ragged',
      {
        request: { batch: RAGGED_ROWS, ragged },
        tokenCount: ragged.reduce((sum, { newTokens }) => sum + newTokens, 0),
      },
    ],
  ]);
}

function equalRows(ours: Answer, theirs: Answer): number {
  const equal = ours.tokens.filter((row, index) => row.join() === theirs.tokens[index]?.join());
  return equal.length / ours.tokens.length;
}

const [modelFolder, onnxFolder, packages, rounds = '5'] = process.argv.slice(2);
if (modelFolder === undefined || onnxFolder === undefined || packages === undefined) {
  throw new Error('expected MODEL ONNX PACKAGES [ROUNDS]');
}
const path = (file: string): string => fileURLToPath(new URL(file, import.meta.url));
const ours = await startSystem('GistQL', [path('../dist/cli.js'), 'bench', '--protocol', modelFolder]);
const theirs = await startSystem('transformers.js', [path('transformers-js-peer.mjs'), onnxFolder, packages]);
console.log({ processor: cpus()[0]?.model, processors: availableParallelism(), node: process.versions.node });
const results = new Map<string, { ours: number[]; theirs: number[]; ratios: number[]; equal: number[] }>();
for (let round = 0; round <= Number(rounds); round++) {
  for (const [name, { request, tokenCount }] of workloads()) {
    const order = round % 2 === 0 ? [ours, theirs] : [theirs, ours];
    const answers = new Map<ProtocolProcess, Answer>();
    for (const system of order) answers.set(system, await system.ask({ id: round, ...request }));
    const [mine, peer] = [answers.get(ours), answers.get(theirs)] as [Answer, Answer];
    if (round === 0) continue;
    const result = results.get(name) ?? { ours: [], theirs: [], ratios: [], equal: [] };
    result.ours.push(tokenCount / mine.seconds);
    result.theirs.push(tokenCount / peer.seconds);
    result.ratios.push(peer.seconds / mine.seconds);
    result.equal.push(equalRows(mine, peer));
    results.set(name, result);
  }
  console.error(`round ${round} of ${rounds}, load ${loadavg()[0]?.toFixed(1)}`);
}
ours.stop();
theirs.stop();
console.log(
  `| ${PROMPT_TOKENS} → ${NEW_TOKENS} tokens | GistQL tokens/s | transformers.js tokens/s | ratio (over rounds) | rows equal |`,
);
console.log('|---|---|---|---|---|');
for (const [name, result] of results) {
  const equal = (100 * result.equal.reduce((sum, share) => sum + share, 0)) / result.equal.length;
  console.log(
    `| ${name} | ${median(result.ours).toFixed(1)} | ${median(result.theirs).toFixed(1)} | ${median(result.ratios).toFixed(2)} (${rangeOf(result.ratios)}) | ${equal.toFixed(0)} % |`,
  );
}
