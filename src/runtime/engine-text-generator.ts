/** The text layer over the engines of the loaded models. */
import { randomInt, randomUUID } from 'node:crypto';
import type { AdapterDirectory, AdapterLease } from './adapters/served-adapter.ts';
import type { GeneratedSequence } from './decoding/decoding-strategy.ts';
import { parseSamplingParams } from './decoding/parse-sampling-params.ts';
import type { DecodingOptions, SamplingParams } from './decoding/sampling-params.ts';
import type { GenerateOptions, GenerationOutput } from './engine/generation-request.ts';
import { RuntimeError } from './errors.ts';
import type { ModelDirectory, ServedModel } from './models/served-model.ts';
import type {
  CallOptions,
  Prepared,
  TextGeneration,
  TextGenerationEvent,
  TextGenerator,
  TextRequest,
  TextSequence,
} from './text-generation.ts';
import { TokenInbox } from './token-inbox.ts';
import { cutAtStop } from './tokenizer/stop-strings.ts';
import { TextStreamer } from './tokenizer/text-streamer.ts';

const MAX_STOP_STRINGS = 16;
const MAX_BAD_WORDS = 1024;
const MAX_WORD_LENGTH = 256;

export interface TextGeneratorOptions {
  /** Seed of a sampling request that names none: a whole number from 0 to 2³¹ - 1. Default: drawn at random. */
  readonly drawSeed?: () => number;
  /** Id of the next generation. Default: a random UUID. */
  readonly createId?: () => string;
}

/** A request with everything looked up and checked: what can be refused is refused before the engine hears of it. */
interface CheckedRequest {
  readonly id: string;
  readonly model: ServedModel;
  /** Released by `answer`. */
  readonly lease: AdapterLease;
  readonly prompt: string;
  readonly promptTokenIds: readonly number[];
  readonly truncated: boolean;
  readonly params: SamplingParams;
}

function checkWords(argument: 'stop' | 'badWords', words: readonly string[], most: number): void {
  if (words.length > most) {
    throw new RuntimeError('BAD_USER_INPUT', `Expected at most ${most} ${argument} strings, ${words.length} came.`, {
      argument,
    });
  }
  const wrong = words.find((word) => word.length === 0 || word.length > MAX_WORD_LENGTH);
  if (wrong === undefined) return;
  const came = wrong === '' ? 'an empty one' : `one of ${wrong.length}`;
  const message = `Expected each of ${argument} to have 1 to ${MAX_WORD_LENGTH} characters, ${came} came.`;
  throw new RuntimeError('BAD_USER_INPUT', message, { argument });
}

/**
 * The ids that each bad word means: those of the word encoded alone, without special tokens, as Hugging Face advises.
 * For SentencePiece that is the word at the beginning of a word ("▁cat"), not inside another.
 */
async function encodeBadWords(model: ServedModel, words: readonly string[]): Promise<readonly (readonly number[])[]> {
  const encoded = await Promise.all(words.map((word) => model.tokenizer.encode(word, { addSpecialTokens: false })));
  const nothing = encoded.findIndex((ids) => ids.length === 0);
  if (nothing < 0) return encoded;
  const message = `Expected badWords that have tokens, ${JSON.stringify(words[nothing])} has none. Leave it out.`;
  throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'badWords' });
}

export class EngineTextGenerator implements TextGenerator {
  private readonly drawSeed: () => number;
  private readonly createId: () => string;

  constructor(
    private readonly models: ModelDirectory,
    private readonly adapters: AdapterDirectory,
    { drawSeed = () => randomInt(2 ** 31), createId = randomUUID }: TextGeneratorOptions = {},
  ) {
    this.drawSeed = drawSeed;
    this.createId = createId;
  }

  async prepare(request: TextRequest): Promise<Prepared<TextGeneration>> {
    const checked = await this.check(request);
    return {
      run: async (options = {}) => describe(checked, await answer(checked, false, options)),
      discard: () => checked.lease.release(),
    };
  }

  async generate(request: TextRequest, options?: CallOptions): Promise<TextGeneration> {
    return (await this.prepare(request)).run(options);
  }

  async *stream(request: TextRequest, options: CallOptions = {}): AsyncGenerator<TextGenerationEvent> {
    const checked = await this.check(request);
    const { id, params, model } = checked;
    const leaving = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, leaving.signal]) : leaving.signal;
    const inbox = new TokenInbox();
    const running = answer(checked, true, { ...options, signal, onTokens: (event) => inbox.add(event) }).finally(() =>
      inbox.close(),
    );
    // whoever awaits `running` below hears of a failure; a reader that left does not
    running.catch(() => {});
    const streamers = Array.from(
      { length: params.numReturnSequences },
      () => new TextStreamer(model.tokenizer, params.stop),
    );
    try {
      for await (const { sequenceIndex, tokenIds } of inbox.drain()) {
        const delta = await streamers[sequenceIndex]?.push(tokenIds);
        if (delta) yield { type: 'tokens', generationId: id, sequenceIndex, ...delta };
      }
      const generation = await describe(checked, await running);
      for (const { index, text, tokenIds } of generation.sequences) {
        const rest = streamers[index]?.finish(text, tokenIds);
        if (rest) yield { type: 'tokens', generationId: id, sequenceIndex: index, ...rest };
      }
      yield { type: 'finished', generationId: id, generation };
    } finally {
      leaving.abort();
    }
  }

  private async check(request: TextRequest): Promise<CheckedRequest> {
    const model = this.models.get(request.modelId);
    const lease = this.adapters.acquire(model, request.adapters ?? null);
    try {
      return await this.read(request, model, lease);
    } catch (error) {
      lease.release();
      throw error;
    }
  }

  private async read(request: TextRequest, model: ServedModel, lease: AdapterLease): Promise<CheckedRequest> {
    const { decoding, logprobs, prompt, onOverflow } = request;
    const asked = await this.parseDecoding(model, decoding ?? {}, logprobs ?? true);
    const most = model.config.maxInputTokens;
    const { addSpecialTokens = true } = request;
    const encoded = await model.tokenizer.encodeWithin(prompt, most, { addSpecialTokens });
    const { ids, tokenCount, text, truncated } = encoded;
    if (truncated && onOverflow === 'error') throw inputTooLong(tokenCount, most);
    if (ids.length === 0) {
      throw new RuntimeError('BAD_USER_INPUT', 'Expected a prompt of at least one token, an empty one came.', {
        argument: 'prompt',
      });
    }
    const params = withinContext(model, ids.length, asked);
    return { id: this.createId(), model, lease, prompt: text, promptTokenIds: ids, truncated, params };
  }

  private async parseDecoding(
    model: ServedModel,
    decoding: DecodingOptions,
    logprobs: boolean,
  ): Promise<SamplingParams> {
    const badWords = decoding.badWords ?? [];
    checkWords('stop', decoding.stop ?? [], MAX_STOP_STRINGS);
    checkWords('badWords', badWords, MAX_BAD_WORDS);
    return parseSamplingParams(decoding, {
      defaults: model.generationDefaults,
      badWordsIds: await encodeBadWords(model, badWords),
      drawSeed: this.drawSeed,
      maxRows: model.maxRows,
      logprobs,
    });
  }
}

export function inputTooLong(came: number, most: number): RuntimeError {
  const message = `Expected at most ${most} input tokens, ${came} came. Shorten the text or ask for onOverflow: TRUNCATE.`;
  return new RuntimeError('INPUT_TOO_LONG', message, { argument: 'onOverflow' });
}

/** A decoder-only model has so many positions for prompt and answer together: an answer that reaches the last ends by `length`. */
function withinContext({ config }: ServedModel, promptTokens: number, params: SamplingParams): SamplingParams {
  if (config.family === 't5') return params;
  const maxNewTokens = Math.min(params.maxNewTokens, config.contextLength - promptTokens);
  return { ...params, maxNewTokens, minNewTokens: Math.min(params.minNewTokens, maxNewTokens) };
}

/** Runs a request with its adapters, which are free again when it ends, however it ends. */
async function answer(
  checked: CheckedRequest,
  stream: boolean,
  { priority = 'interactive', ...options }: GenerateOptions & CallOptions,
): Promise<GenerationOutput> {
  const { id, promptTokenIds, params, model, lease } = checked;
  try {
    const output = await lease.use(
      (adapters) => model.engine.generate({ id, promptTokenIds, adapters, params, stream, priority }, options),
      options.signal,
    );
    if (output === undefined) return nothingYet(params);
    lease.count(tokenCountOf(output));
    return output;
  } finally {
    lease.release();
  }
}

/** What a request is answered with that was cancelled while it waited for its adapters. */
function nothingYet({ numReturnSequences }: SamplingParams): GenerationOutput {
  return {
    sequences: Array.from({ length: numReturnSequences }, () => ({
      tokens: [],
      score: 0,
      finishReason: 'cancelled' as const,
    })),
    timing: { queuedMs: 0, prefillMs: 0, decodeMs: 0, totalMs: 0, timeToFirstTokenMs: 0 },
  };
}

function tokenCountOf({ sequences }: GenerationOutput): number {
  return sequences.reduce((sum, { tokens }) => sum + tokens.length, 0);
}

async function describe(checked: CheckedRequest, output: GenerationOutput): Promise<TextGeneration> {
  const { sequences, timing } = output;
  const { id, model, lease, prompt, promptTokenIds, truncated, params } = checked;
  const texts = await Promise.all(sequences.map((sequence, index) => describeSequence(model, params, sequence, index)));
  const completionTokens = tokenCountOf(output);
  return {
    id,
    model,
    adapters: lease.adapters,
    prompt,
    promptTokenIds,
    truncated,
    sequences: texts,
    usage: {
      promptTokens: promptTokenIds.length,
      completionTokens,
      totalTokens: promptTokenIds.length + completionTokens,
    },
    timing: { ...timing, tokensPerSecond: timing.totalMs > 0 ? (1000 * completionTokens) / timing.totalMs : 0 },
    seed: params.doSample ? params.seed : null,
  };
}

async function describeSequence(
  model: ServedModel,
  params: SamplingParams,
  { tokens, score, finishReason }: GeneratedSequence,
  index: number,
): Promise<TextSequence> {
  const { tokenizer } = model;
  const tokenIds = tokens.map(({ id }) => id);
  return {
    index,
    text: cutAtStop(await tokenizer.decode(tokenIds), params.stop),
    tokenIds,
    score,
    finishReason,
    tokens: tokens.map(({ id, logprob, alternatives }) => ({
      id,
      logprob,
      text: tokenizer.pieceText(id),
      alternatives: alternatives.map((other) => ({ ...other, text: tokenizer.pieceText(other.id) })),
    })),
  };
}
