/** An engine for tests of the text layer: answers every request with token ids given beforehand, one a step. */

import type { GeneratedSequence } from '../../src/runtime/decoding/decoding-strategy.ts';
import type { FinishReason } from '../../src/runtime/decoding/stopping-criteria.ts';
import type { EngineClient } from '../../src/runtime/engine/engine-client.ts';
import type {
  GenerateOptions,
  GenerationOutput,
  GenerationRequest,
} from '../../src/runtime/engine/generation-request.ts';
import type { LoraWeights } from '../../src/runtime/lora/lora-weights.ts';
import { type ModelFiles, readModelFiles } from '../../src/runtime/models/model-files.ts';
import type { ModelDirectory, ServedModel } from '../../src/runtime/models/served-model.ts';
import { HuggingFaceTokenizer } from '../../src/runtime/tokenizer/hugging-face-tokenizer.ts';
import { repositoryPath } from './oracle.ts';

export interface Script {
  /** Token ids of each returned sequence. */
  readonly sequences: readonly (readonly number[])[];
  readonly finishReason?: FinishReason;
  /** Steps after which it makes no more tokens and waits to be cancelled; absent: runs to the end. */
  readonly waitsAfter?: number;
  /** Thrown instead of an answer once all tokens are out. */
  readonly failure?: Error;
}

export class ScriptedEngine implements EngineClient {
  readonly requests: GenerationRequest[] = [];
  /** The answers, each as long as its request runs. */
  readonly answers: Promise<GenerationOutput>[] = [];
  /** How many requests came in the tick of the first: these would go to a worker in one message. */
  firstTickCount = 0;
  /** By key; requests may name these. */
  readonly adapters = new Map<string, LoraWeights>();
  /** What `addAdapter` rejects with, once it is set. */
  addFailure: Error | undefined;
  readonly status = 'ready';
  pendingCount = 0;

  constructor(private readonly script: Script) {}

  generate(request: GenerationRequest, options: GenerateOptions = {}): Promise<GenerationOutput> {
    if (this.requests.push(request) === 1) {
      queueMicrotask(() => {
        this.firstTickCount = this.requests.length;
      });
    }
    this.pendingCount++;
    const answer = this.play(request, options).finally(() => this.pendingCount--);
    answer.catch(() => {});
    this.answers.push(answer);
    return answer;
  }

  embed(): Promise<readonly Float32Array[]> {
    throw new Error('A scripted engine embeds nothing.');
  }

  async addAdapter(key: string, weights: LoraWeights): Promise<void> {
    await new Promise(setImmediate);
    if (this.addFailure !== undefined) throw this.addFailure;
    this.adapters.set(key, weights);
  }

  dropAdapter(key: string): void {
    this.adapters.delete(key);
  }

  async close(): Promise<void> {}

  private async play(request: GenerationRequest, { signal, onTokens }: GenerateOptions): Promise<GenerationOutput> {
    const { sequences, finishReason = 'stop', waitsAfter, failure } = this.script;
    const longest = Math.max(...sequences.map((ids) => ids.length));
    for (let step = 0; step < longest; step++) {
      await new Promise(setImmediate);
      if (step === waitsAfter) await aborted(signal);
      if (signal?.aborted) return answerOf(sequences, step, 'cancelled');
      for (const [sequenceIndex, ids] of sequences.entries()) {
        const tokenIds = ids.slice(step, step + 1);
        if (request.stream && tokenIds.length > 0) onTokens?.({ sequenceIndex, tokenIds });
      }
    }
    if (failure !== undefined) throw failure;
    return answerOf(sequences, longest, finishReason);
  }
}

async function aborted(signal: AbortSignal | undefined): Promise<void> {
  if (signal?.aborted) return;
  await new Promise((resolve) => signal?.addEventListener('abort', resolve, { once: true }));
}

function answerOf(
  sequences: readonly (readonly number[])[],
  length: number,
  finishReason: FinishReason,
): GenerationOutput {
  const answered = sequences.map((ids): GeneratedSequence => {
    const tokens = ids.slice(0, length).map((id) => ({ id, logprob: -1, alternatives: [{ id, logprob: -1 }] }));
    return { tokens, score: -tokens.length, finishReason };
  });
  return {
    sequences: answered,
    timing: { queuedMs: 0, prefillMs: 1, decodeMs: 4, totalMs: 5, timeToFirstTokenMs: 2 },
  };
}

let files: Promise<{ readonly tokenizer: HuggingFaceTokenizer; readonly model: ModelFiles }> | undefined;

/** The tokenizer and the small files of models/gist-mini, read once a test file. */
export function gistMini(): NonNullable<typeof files> {
  files ??= (async () => {
    const folders = repositoryPath('models');
    const model = await readModelFiles('embedded:gist-mini', { embedded: folders, models: folders });
    return { model, tokenizer: await HuggingFaceTokenizer.parse(model.tokenizerJson) };
  })();
  return files;
}

/** A directory of one model, `gist-mini`, with its own tokenizer and a scripted engine. */
export async function directoryOf(
  engine: EngineClient,
  changes: { readonly maxInputTokens?: number } & Partial<ServedModel> = {},
): Promise<ModelDirectory> {
  const { model, tokenizer } = await gistMini();
  const { maxInputTokens = model.config.maxInputTokens, ...others } = changes;
  const served: ServedModel = {
    id: 'gist-mini',
    source: 'embedded:gist-mini',
    folder: repositoryPath('models/gist-mini'),
    config: { ...model.config, maxInputTokens },
    generationDefaults: {},
    chat: undefined,
    templateId: undefined,
    tokenizer,
    engine,
    maxRows: 16,
    precision: 'fp32',
    device: 'cpu',
    parameterCount: 1,
    memoryBytes: 1,
    loadedAt: new Date(0),
    ...others,
  };
  return {
    defaultId: served.id,
    list: () => [served],
    get: () => served,
    find: (id) => (id === served.id ? served : undefined),
    load: () => Promise.reject(new Error('A directory of one model loads nothing.')),
    unload: async () => false,
  };
}
