/**
 * Our side of the peers' benchmark: requests as JSON lines on stdin, token ids and seconds as JSON lines on stdout. It
 * runs the engine itself, without server and without text: what is measured is the making of tokens.
 */
import { basename, dirname, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { createStrategy } from '../runtime/decoding/create-strategy.ts';
import type { SamplingParams } from '../runtime/decoding/sampling-params.ts';
import { Engine } from '../runtime/engine/engine.ts';
import type { GenerationOutput } from '../runtime/engine/generation-request.ts';
import { loadT5Runner } from '../runtime/models/load-t5.ts';
import { readModelFiles } from '../runtime/models/model-files.ts';
import type { T5Runner } from '../runtime/models/t5-runner.ts';

interface AskedRow {
  readonly sourceIds: readonly number[];
  readonly newTokens: number;
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
  runner: T5Runner,
  rows: readonly AskedRow[],
  beams: number,
  maxRows: number,
): Promise<readonly (readonly number[])[]> {
  const outputs = new Map<string, GenerationOutput>();
  const context = {
    eosTokenIds: runner.eosTokenIds,
    decoderStartTokenId: runner.decoderStartTokenId,
    vocabularySize: runner.vocabularySize,
  };
  const engine = new Engine(
    runner,
    {
      maxRows,
      prefillTokens: 512,
      timeSliceSteps: Number.MAX_SAFE_INTEGER,
      createStrategy: (params) => createStrategy(params, context),
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
  for (const [index, { sourceIds, newTokens }] of rows.entries()) {
    const params = paramsFor(newTokens, beams);
    engine.submit({ id: String(index), promptTokenIds: sourceIds, params, stream: false });
  }
  while (engine.hasWork) await engine.step();
  return rows.map((_, index) => outputs.get(String(index))?.sequences[0]?.tokens.map(({ id }) => id) ?? []);
}

async function answer(runner: T5Runner, request: ProtocolRequest): Promise<object> {
  if (request.adapters?.some((name) => name !== null)) return { id: request.id, unsupported: 'adapters' };
  const start = performance.now();
  let tokens: readonly (readonly number[])[];
  if ('ragged' in request) tokens = await run(runner, request.ragged, 1, request.batch);
  else {
    const { sourceIds, newTokens, beams } = request;
    const rows = sourceIds.map((ids) => ({ sourceIds: ids, newTokens }));
    tokens = await run(runner, rows, beams, rows.length * beams);
  }
  return { id: request.id, seconds: (performance.now() - start) / 1000, tokens };
}

/** Serves the protocol over a model folder until stdin ends or `{"quit":true}` comes. */
export async function serveBenchProtocol(modelFolder: string, threadCount: number, version: string): Promise<void> {
  const folder = resolve(modelFolder);
  const parent = dirname(folder);
  const files = await readModelFiles(`dir:${basename(folder)}`, { embedded: parent, models: parent });
  const { runner } = await loadT5Runner({ modelFolder: files.folder, config: files.config, threadCount }, () => {});
  const say = (message: object): void => console.log(JSON.stringify(message));
  await run(runner, [{ sourceIds: [5, 6, 7, 1], newTokens: 4 }], 1, 1);
  say({ ready: true, name: 'GistQL', version, precision: 'fp32' });
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line) as ProtocolRequest & { readonly quit?: boolean };
    if (request.quit === true) break;
    say(await answer(runner, request));
  }
  await runner.dispose();
}
