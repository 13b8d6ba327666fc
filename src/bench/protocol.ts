/**
 * Our side of the peers' benchmark: requests as JSON lines on stdin, token ids and seconds as JSON lines on stdout. It
 * runs the engine itself, without server and without text: what is measured is the making of tokens.
 */
import { readdir } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { createStrategy } from '../runtime/decoding/create-strategy.ts';
import type { SamplingParams } from '../runtime/decoding/sampling-params.ts';
import { keepFloat32 } from '../runtime/device/device-choice.ts';
import { Engine } from '../runtime/engine/engine.ts';
import type { GenerationOutput } from '../runtime/engine/generation-request.ts';
import type { ModelRunner } from '../runtime/engine/model-runner.ts';
import { prefillTokensOn } from '../runtime/engine/prefill-tokens.ts';
import { targetsOf } from '../runtime/lora/lora-targets.ts';
import type { LoraWeights } from '../runtime/lora/lora-weights.ts';
import { loadRunner } from '../runtime/models/load-runner.ts';
import { type ModelFiles, readModelFiles } from '../runtime/models/model-files.ts';
import type { Device, Precision } from '../runtime/models/served-model.ts';
import { readAdapter } from '../runtime/peft/read-adapter.ts';
import { runtimeVersion } from '../runtime/session.ts';

interface AskedRow {
  readonly sourceIds: readonly number[];
  readonly newTokens: number;
  /** Name of a folder of the adapters' folder; null: none. */
  readonly adapter?: string | null;
}

type ProtocolRequest = {
  readonly id: number;
  readonly adapters?: readonly (string | null)[];
  /** Whether the answer says when the first token came. The rows then stream, and tokens come in shorter runs. */
  readonly firstToken?: boolean;
} & (
  | { readonly ragged: readonly AskedRow[]; readonly batch: number }
  | { readonly sourceIds: readonly (readonly number[])[]; readonly newTokens: number; readonly beams: number }
);

/** Exactly `newTokens` tokens: the end token is banned until then. */
function paramsFor(newTokens: number, numBeams: number): SamplingParams {
  return {
    maxNewTokens: newTokens,
    minNewTokens: newTokens,
    doSample: false,
    temperature: 1,
    topK: 0,
    topP: 1,
    minP: 0,
    typicalP: 1,
    numBeams,
    lengthPenalty: 1,
    earlyStopping: 'heuristic',
    numReturnSequences: 1,
    noRepeatNgramSize: 0,
    repetitionPenalty: 1,
    seed: 0,
    stop: [],
    badWordsIds: [],
    topLogprobs: 0,
    logprobs: false,
  };
}

interface RunOptions {
  readonly beams: number;
  /** Rows that run at once. */
  readonly maxRows: number;
  readonly stream: boolean;
}

interface RunResult {
  /** Of each row. */
  readonly tokens: readonly (readonly number[])[];
  /** From the start to the first token of whichever row had one first; undefined: nothing was streamed. */
  readonly firstTokenSeconds: number | undefined;
}

interface Served {
  readonly runner: ModelRunner;
  readonly device: Device;
  /** Names of adapters. */
  readonly known: ReadonlySet<string>;
}

/** Runs all rows and returns the ids of each. */
async function run({ runner, device }: Served, rows: readonly AskedRow[], options: RunOptions): Promise<RunResult> {
  const { beams, maxRows, stream } = options;
  const start = performance.now();
  const outputs = new Map<string, GenerationOutput>();
  let firstTokenSeconds: number | undefined;
  const context = {
    eosTokenIds: runner.eosTokenIds,
    vocabularySize: runner.vocabularySize,
  };
  const engine = new Engine(
    runner,
    {
      maxRows,
      prefillTokens: prefillTokensOn(device),
      timeSliceSteps: Number.MAX_SAFE_INTEGER,
      createStrategy: (params, history) => createStrategy(params, { ...context, history }),
      now: () => performance.now(),
    },
    {
      onTokens: () => {
        firstTokenSeconds ??= secondsSince(start);
      },
      onFinished: (id, output) => outputs.set(id, output),
      onFailed: (_, error) => {
        throw error;
      },
    },
  );
  for (const [index, { sourceIds, newTokens, adapter }] of rows.entries()) {
    const params = paramsFor(newTokens, beams);
    const adapters = typeof adapter === 'string' ? [{ key: adapter, weight: 1 }] : [];
    engine.submit({ id: String(index), promptTokenIds: sourceIds, params, stream, adapters });
  }
  while (engine.hasWork) await engine.step();
  const tokens = rows.map((_, index) => outputs.get(String(index))?.sequences[0]?.tokens.map(({ id }) => id) ?? []);
  return { tokens, firstTokenSeconds };
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}

async function answer(served: Served, request: ProtocolRequest): Promise<object> {
  const named = request.adapters?.filter((name) => name !== null) ?? [];
  if (named.some((name) => !served.known.has(name))) return { id: request.id, unsupported: 'adapters' };
  const start = performance.now();
  const { rows, ...options } = asked(request);
  try {
    const result = await run(served, rows, { ...options, stream: request.firstToken === true });
    return { id: request.id, seconds: secondsSince(start), ...result };
  } catch (error) {
    // out of a device's memory, as a rule: fewer rows may do
    console.error(error);
    const message = error instanceof Error ? error.message : String(error);
    return { id: request.id, unsupported: message.slice(0, MOST_REASON) };
  }
}

function asked(request: ProtocolRequest): Omit<RunOptions, 'stream'> & { readonly rows: readonly AskedRow[] } {
  if ('ragged' in request) return { rows: request.ragged, beams: 1, maxRows: request.batch };
  const { sourceIds, newTokens, beams } = request;
  const rows = sourceIds.map((ids, row) => ({ sourceIds: ids, newTokens, adapter: request.adapters?.[row] ?? null }));
  return { rows, beams, maxRows: rows.length * beams };
}

/** Characters of what is said of a request that failed; stderr has all. */
const MOST_REASON = 200;
/** Bound on ranks that the server has by default. */
const MAX_RANK = 256;

async function readAdapters(folder: string, model: ModelFiles): Promise<ReadonlyMap<string, LoraWeights>> {
  const adapters = new Map<string, LoraWeights>();
  const base = { modelFolder: model.folder, config: model.config };
  const entries = await readdir(folder, { withFileTypes: true });
  for (const { name } of entries.filter((entry) => entry.isDirectory())) {
    adapters.set(name, (await readAdapter(join(folder, name), base, { maxRank: MAX_RANK })).weights);
  }
  return adapters;
}

export interface BenchOptions {
  readonly modelFolder: string;
  /** Folder of PEFT folders that requests name; absent: no request names any. */
  readonly adaptersFolder: string | undefined;
  readonly threadCount: number;
  readonly device: Device;
  readonly precision: Precision;
  /** Whether a run of the decoder makes several steps, as it always does on CUDA and in fp16. */
  readonly decodeLoop: boolean;
  /** Of this program. */
  readonly version: string;
}

/** Serves the protocol over a model folder until stdin ends or `{"quit":true}` comes. */
export async function serveBenchProtocol(options: BenchOptions): Promise<void> {
  const { modelFolder, adaptersFolder, threadCount, device, precision, version } = options;
  if (device === 'cuda') keepFloat32(process.env);
  const decodeLoop = options.decodeLoop || device === 'cuda' || precision === 'fp16';
  if (decodeLoop && precision === 'int8') {
    throw new Error(
      'Expected fp32 or fp16 with --device cuda or --decode-loop, int8 came. Leave them out to measure int8.',
    );
  }
  const path = resolve(modelFolder);
  const parent = dirname(path);
  const files = await readModelFiles(`dir:${basename(path)}`, { embedded: parent, models: parent });
  const adapters = adaptersFolder === undefined ? new Map() : await readAdapters(adaptersFolder, files);
  const targets = targetsOf(adapters.values());
  const { folder, config } = files;
  const loading = { modelFolder: folder, config, threadCount, device, precision, decodeLoop, targets };
  const { runner } = await loadRunner(loading, () => {});
  for (const [name, weights] of adapters) runner.addAdapter(name, weights);
  const served = { runner, device, known: new Set(adapters.keys()) };
  const say = (message: object): void => console.log(JSON.stringify(message));
  await run(served, [{ sourceIds: [5, 6, 7, 1], newTokens: 4 }], { beams: 1, maxRows: 1, stream: false });
  say({ ready: true, name: 'GistQL', version: `${version}, onnxruntime ${runtimeVersion}`, precision, device });
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line) as ProtocolRequest & { readonly quit?: boolean };
    if (request.quit === true) break;
    say(await answer(served, request));
  }
  await runner.dispose();
}
