/**
 * GistQL beside PyTorch on one GPU: T5 models, the same ids, exactly as many new tokens, all systems in one run whose
 * rounds are interleaved: who goes first rotates, round 0 warms up. bench/cuda.sh checks what is needed and calls it:
 *   npx tsx bench/cuda.bench.ts WORK PYTHON [--model FOLDER]... [--device cuda|cpu] [--batches 1,16,64,128]
 *     [--source-length 260] [--new-tokens 128] [--rounds 5] [--systems gistql-fp32,pytorch-fp32,...]
 * Markdown goes to stdout, progress to stderr, all measurements to WORK/cuda-results.json.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { arch, availableParallelism, cpus, release, type } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { factTable } from '../src/bench/markdown-table.ts';
import { SeededRandom } from '../src/bench/seeded-random.ts';
import type { T5Config } from '../src/runtime/models/model-config.ts';
import { readModelFiles } from '../src/runtime/models/model-files.ts';
import { type BatchResult, publishedTable, ratioTable, speedTable } from './cuda-report.ts';
import { type BenchDevice, REFERENCE, type SystemKind, systemsOf } from './cuda-systems.ts';
import { type Answer, ProtocolProcess, type Ready } from './protocol-process.ts';
import { median } from './rounds.ts';
import { stepBytes } from './step-bytes.ts';

interface Settings {
  readonly work: string;
  readonly python: string;
  readonly device: BenchDevice;
  readonly kinds: readonly SystemKind[];
  readonly batches: readonly number[];
  readonly sourceLength: number;
  readonly newTokens: number;
  readonly rounds: number;
}

interface Running {
  readonly kind: SystemKind;
  readonly ready: Ready;
  readonly process: ProtocolProcess;
  readonly log: string;
  hasEnded: boolean;
}

/** What a system answered to the requests of one batch size. */
interface Cell {
  readonly answers: { readonly plain: Answer; readonly streamed: Answer }[];
  trouble: string | undefined;
}

type Cells = ReadonlyMap<Running, Cell>;

/** Behind those that mean padding, an end and what is unknown. */
const FIRST_ID = 3;

function say(text: string): void {
  console.error(text);
}

async function start(kind: SystemKind, folder: string, { work, python, device }: Settings): Promise<Running> {
  const log = join(work, `${kind.label.toLowerCase().replace(' ', '-')}.log`);
  const command = kind.command({ folder, python, device });
  say(`${kind.label}: loads ${basename(folder)}`);
  const started = await ProtocolProcess.start(kind.label, { command, environment: kind.environment, log });
  return { kind, log, hasEnded: false, ...started };
}

/** Of systems that cannot start there is a line in place of numbers. */
async function startAll(folder: string, settings: Settings) {
  const running: Running[] = [];
  const absent: string[] = [];
  for (const kind of settings.kinds) {
    try {
      running.push(await start(kind, folder, settings));
    } catch (error) {
      const log = `${kind.label.toLowerCase().replace(' ', '-')}.log`;
      absent.push(`${error instanceof Error ? error.message : error} before it was ready: see WORK/${log}`);
    }
  }
  return { running, absent };
}

function requestOf(config: T5Config, rows: number, round: number, { sourceLength, newTokens }: Settings) {
  const random = new SeededRandom(1000 * round + rows);
  const source = (): readonly number[] => [
    ...Array.from({ length: sourceLength - 1 }, () => random.whole(FIRST_ID, config.vocabularySize - 1)),
    config.eosTokenIds[0] ?? 1,
  ];
  return { id: round, batch: rows, beams: 1, newTokens, sourceIds: Array.from({ length: rows }, source) };
}

type Request = ReturnType<typeof requestOf>;

/** Undefined: it gave none, and its cell says why. */
async function ask(
  system: Running,
  cell: Cell,
  request: Request & { readonly firstToken?: true },
): Promise<Answer | undefined> {
  if (system.hasEnded) cell.trouble ??= `ended: see WORK/${basename(system.log)}`;
  if (cell.trouble !== undefined) return undefined;
  const from = performance.now();
  try {
    const answer = await system.process.ask(request);
    if (answer.unsupported !== undefined) {
      cell.trouble = answer.unsupported;
      return undefined;
    }
    const waited = (performance.now() - from) / 1000;
    const isWhole = answer.tokens.length === request.batch;
    if (!isWhole || answer.tokens.some((row) => row.length !== request.newTokens)) {
      cell.trouble = 'void: other numbers of tokens than asked for';
    } else if (waited - answer.seconds > 0.1 + 0.1 * waited) {
      cell.trouble = 'void: the seconds that it says are not those that were waited';
    }
    return answer;
  } catch {
    system.hasEnded = true;
    return ask(system, cell, request);
  }
}

/** One round of one batch: all systems, then all of them again for the first token. */
async function runRound(cells: Cells, request: Request, round: number): Promise<void> {
  const systems = [...cells.keys()];
  const shift = round % systems.length;
  const order = [...systems.slice(shift), ...systems.slice(0, shift)];
  const plain = new Map<Running, Answer>();
  for (const system of order) {
    const answer = await ask(system, cells.get(system) as Cell, request);
    if (answer !== undefined) plain.set(system, answer);
  }
  for (const system of order) {
    const cell = cells.get(system) as Cell;
    const streamed = await ask(system, cell, { ...request, firstToken: true });
    const own = plain.get(system);
    if (streamed !== undefined && own !== undefined) cell.answers.push({ plain: own, streamed });
  }
  const seconds = [...plain].map(([{ kind }, answer]) => `${kind.label} ${answer.seconds.toFixed(2)} s`);
  say(`round ${round}, ${request.batch} rows: ${seconds.join(', ')}`);
}

/** Of rows of all rounds that both have. */
function equalShare(cell: Cell, reference: Cell | undefined): number | undefined {
  const pairs = cell.answers.flatMap(({ plain }, round) =>
    plain.tokens.map((row, index) => [row.join(), reference?.answers[round]?.plain.tokens[index]?.join()] as const),
  );
  const compared = pairs.filter(([, theirs]) => theirs !== undefined);
  if (compared.length === 0) return undefined;
  return compared.filter(([mine, theirs]) => mine === theirs).length / compared.length;
}

function resultOf(config: T5Config, rows: number, cells: Cells, settings: Settings): BatchResult {
  const { newTokens, sourceLength } = settings;
  const reference = [...cells].find(([{ kind }]) => kind.label === REFERENCE)?.[1];
  const systems = [...cells].map(([{ kind }, cell]) => {
    const [, ...rounds] = cell.answers;
    return {
      system: kind,
      seconds: rounds.map(({ plain }) => plain.seconds),
      firstTokenSeconds: rounds.map(({ streamed }) => streamed.firstTokenSeconds ?? Number.NaN),
      equalShare: equalShare(cell, reference),
      bytes: stepBytes(config, { rows, sourceLength, newTokens, numberBytes: kind.numberBytes }),
      trouble: cell.trouble,
    };
  });
  return { rows, newTokens, systems };
}

/** Bytes a second, as the first PyTorch measures them that still runs; none: there is none. */
async function memoryRate(running: readonly Running[], id: number): Promise<readonly number[]> {
  const peer = running.find(({ kind, hasEnded }) => !kind.isOurs && !hasEnded);
  if (peer === undefined) return [];
  try {
    return [(await peer.process.ask<{ bytesPerSecond: number }>({ id, memoryRate: true })).bytesPerSecond];
  } catch {
    peer.hasEnded = true;
    return [];
  }
}

async function measure(folder: string, settings: Settings) {
  const path = resolve(folder);
  const { config } = await readModelFiles(`dir:${basename(path)}`, { embedded: dirname(path), models: dirname(path) });
  if (config.family !== 't5') throw new Error(`expected a T5 in ${folder}, ${config.family} came`);
  const { running, absent } = await startAll(path, settings);
  const rates: number[] = [];
  const cells = settings.batches.map((rows) => ({
    rows,
    cells: new Map(running.map((system): [Running, Cell] => [system, { answers: [], trouble: undefined }])),
  }));
  for (let round = 0; round <= settings.rounds; round++) {
    for (const batch of cells) await runRound(batch.cells, requestOf(config, batch.rows, round, settings), round);
    rates.push(...(await memoryRate(running, round)));
  }
  for (const { process } of running) process.stop();
  const results = cells.map((batch) => resultOf(config, batch.rows, batch.cells, settings));
  const versions = running.map(({ kind, ready }): [string, string] => [kind.label, `${ready.name} ${ready.version}`]);
  return { model: basename(path), results, memoryRate: median(rates), absent, versions };
}

type Measured = Awaited<ReturnType<typeof measure>>;

/** The first line that a command prints with a match; undefined: it cannot be run. */
function asked(command: string, args: readonly string[], pattern = /.+/): string | undefined {
  try {
    return pattern.exec(execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }))?.[0];
  } catch {
    return undefined;
  }
}

function machine(device: BenchDevice): [string, string][] {
  const processor = `${cpus()[0]?.model.trim() ?? arch()}, ${availableParallelism()} for this process`;
  const query = ['--query-gpu=name,memory.total,driver_version', '--format=csv,noheader'];
  const gpu = asked('nvidia-smi', query);
  const cuda = asked('nvidia-smi', [], /CUDA Version: [\d.]+/);
  const facts: [string, string][] =
    device === 'cuda' ? [['GPU, its memory, driver', `${gpu ?? 'nvidia-smi does not say'}; ${cuda ?? ''}`]] : [];
  return [...facts, ['processor', processor], ['system', `${type()} ${release()}, Node ${process.versions.node}`]];
}

function describe({ model, results, memoryRate, absent, versions }: Measured): string {
  const parts = [
    `### ${model}`,
    Number.isNaN(memoryRate)
      ? 'The rate of the memory was not measured: no PyTorch that would have done it.'
      : `A copy within the device's memory reads and writes ${(memoryRate / 1e9).toFixed(0)} · 10⁹ bytes a second (2 · bytes / seconds).`,
    speedTable(results, memoryRate),
    ratioTable(results),
    ...absent,
    factTable(
      'system',
      versions.map(([label, version]) => [label, version]),
    ),
  ];
  return parts.join('\n\n');
}

function readSettings(): { readonly settings: Settings; readonly folders: readonly string[] } {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      model: { type: 'string', multiple: true },
      device: { type: 'string', default: 'cuda' },
      batches: { type: 'string', default: '1,16,64,128' },
      'source-length': { type: 'string', default: '260' },
      'new-tokens': { type: 'string', default: '128' },
      rounds: { type: 'string', default: '5' },
      systems: { type: 'string' },
    },
  });
  const [work, python] = positionals;
  const { device } = values;
  if (work === undefined || python === undefined) throw new Error('expected WORK PYTHON [options]');
  if (device !== 'cuda' && device !== 'cpu') throw new Error(`expected --device cuda or cpu, ${device} came`);
  const settings = {
    work,
    python,
    device,
    kinds: systemsOf(device, values.systems),
    batches: values.batches.split(',').map(Number),
    sourceLength: Number(values['source-length']),
    newTokens: Number(values['new-tokens']),
    rounds: Number(values.rounds),
  } as const;
  return { settings, folders: values.model ?? ['base', 'large'].map((size) => join(work, 'models', size)) };
}

const { settings, folders } = readSettings();
const { device, sourceLength, newTokens, rounds } = settings;
mkdirSync(settings.work, { recursive: true });
const facts = machine(device);
const measured: Measured[] = [];
for (const folder of folders) measured.push(await measure(folder, settings));
const results = join(settings.work, 'cuda-results.json');
writeFileSync(results, `${JSON.stringify({ machine: facts, settings, measured }, undefined, 1)}\n`);
say(`all measurements: ${results}`);

const words = [
  `${sourceLength} source tokens, exactly ${newTokens} new ones, greedy; medians of ${rounds} rounds, a warm-up round left out. Tokens/s count the whole request, encoder included. The first token is that of a second request that streams (all rows at once, of any of them; ours come in bursts). What a step has to read: weights of decoder and head once, keys and values of the sources and of the tokens before (the mean of all steps), no number twice, in 16 bits 2 bytes each though both sides keep some wider; times steps a second of the whole request, over the rate of a copy, it is the share of the memory's rate. fp32: no product is rounded to TF32; tf32: products may be.`,
  device === 'cuda' ? '' : 'On the processor: it shows that the comparison works, and says nothing of a GPU.',
].filter((text) => text !== '');
console.log([...words, factTable('machine', facts), ...measured.map(describe)].join('\n\n'));
if (device === 'cuda') console.log(`\n${publishedTable()}`);
console.log(`\n\`bench/cuda.sh WORK ${process.argv.slice(4).join(' ')}\``);
