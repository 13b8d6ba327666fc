/**
 * Our side of the peers' benchmark: requests as JSON lines on stdin, token ids and seconds as JSON lines on stdout. It
 * runs the engine itself, without server and without text: what is measured is the making of tokens.
 */
import { readdir } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { createStrategy } from '../runtime/decoding/create-strategy.ts';
import type { SamplingParams } from '../runtime/decoding/sampling-params.ts';
import { Engine } from '../runtime/engine/engine.ts';
import type { GenerationOutput } from '../runtime/engine/generation-request.ts';
import type { ModelRunner } from '../runtime/engine/model-runner.ts';
import { targetsOf } from '../runtime/lora/lora-targets.ts';
import type { LoraWeights } from '../runtime/lora/lora-weights.ts';
import { loadRunner } from '../runtime/models/load-runner.ts';
import { type ModelFiles, readModelFiles } from '../runtime/models/model-files.ts';
import type { Precision } from '../runtime/models/served-model.ts';
import { readAdapter } from '../runtime/peft/read-adapter.ts';

interface AskedRow {
  readonly sourceIds: readonly number[];
  readonly newTokens: number;
  /** Name of a folder of the adapters' folder; null: none. */
  readonly adapter?: string | null;
}

type ProtocolRequest = { readonly id: number; readonly adapters?: readonly (string | null)[] } & (
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

/** Runs all rows, at most `maxRows` at a time, and returns the ids of each. */
async function run(
  runner: ModelRunner,
  rows: readonly AskedRow[],
  beams: number,
  maxRows: number,
): Promise<readonly (readonly number[])[]> {
  const outputs = new Map<string, GenerationOutput>();
  const context = {
    eosTokenIds: runner.eosTokenIds,
    vocabularySize: runner.vocabularySize,
  };
  const engine = new Engine(
    runner,
    {
      maxRows,
      prefillTokens: 512,
      timeSliceSteps: Number.MAX_SAFE_INTEGER,
      createStrategy: (params, history) => createStrategy(params, { ...context, history }),
      now: () => performance.now(),
    },
    {
      onTokens: () => {},
      onFinished: (id, output) => outputs.set(id, output),
      onFailed: (_, error) => {
        throw error;
      },
    },
  );
  for (const [index, { sourceIds, newTokens, adapter }] of rows.entries()) {
    const params = paramsFor(newTokens, beams);
    const adapters = typeof adapter === 'string' ? [{ key: adapter, weight: 1 }] : [];
    engine.submit({ id: String(index), promptTokenIds: sourceIds, params, stream: false, adapters });
  }
  while (engine.hasWork) await engine.step();
  return rows.map((_, index) => outputs.get(String(index))?.sequences[0]?.tokens.map(({ id }) => id) ?? []);
}

async function answer(runner: ModelRunner, known: ReadonlySet<string>, request: ProtocolRequest): Promise<object> {
  const named = request.adapters?.filter((name) => name !== null) ?? [];
  if (named.some((name) => !known.has(name))) return { id: request.id, unsupported: 'adapters' };
  const start = performance.now();
  let tokens: readonly (readonly number[])[];
  if ('ragged' in request) tokens = await run(runner, request.ragged, 1, request.batch);
  else {
    const { sourceIds, newTokens, beams } = request;
    const rows = sourceIds.map((ids, row) => ({ sourceIds: ids, newTokens, adapter: request.adapters?.[row] ?? null }));
    tokens = await run(runner, rows, beams, rows.length * beams);
  }
  return { id: request.id, seconds: (performance.now() - start) / 1000, tokens };
}

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
  readonly precision: Precision;
  /** Of this program. */
  readonly version: string;
}

/** Serves the protocol over a model folder until stdin ends or `{"quit":true}` comes. */
export async function serveBenchProtocol(options: BenchOptions): Promise<void> {
  const { modelFolder, adaptersFolder, threadCount, precision, version } = options;
  const path = resolve(modelFolder);
  const parent = dirname(path);
  const files = await readModelFiles(`dir:${basename(path)}`, { embedded: parent, models: parent });
  const adapters = adaptersFolder === undefined ? new Map() : await readAdapters(adaptersFolder, files);
  const known = new Set(adapters.keys());
  const targets = targetsOf(adapters.values());
  const { folder, config } = files;
  const { runner } = await loadRunner({ modelFolder: folder, config, threadCount, precision, targets }, () => {});
  for (const [name, weights] of adapters) runner.addAdapter(name, weights);
  const say = (message: object): void => console.log(JSON.stringify(message));
  await run(runner, [{ sourceIds: [5, 6, 7, 1], newTokens: 4 }], 1, 1);
  say({ ready: true, name: 'GistQL', version, precision });
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line) as ProtocolRequest & { readonly quit?: boolean };
    if (request.quit === true) break;
    say(await answer(runner, known, request));
  }
  await runner.dispose();
}
