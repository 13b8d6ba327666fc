/** The text layer over the engines of the loaded models. */
import { randomInt, randomUUID } from 'node:crypto';
import type { GeneratedSequence, TokensAppended } from './decoding/decoding-strategy.ts';
import { parseSamplingParams } from './decoding/parse-sampling-params.ts';
import type { DecodingOptions, SamplingParams } from './decoding/sampling-params.ts';
import type { GenerationOutput } from './engine/generation-request.ts';
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
import { cutAtStop, TextStreamer } from './tokenizer/text-streamer.ts';

const MAX_STOP_STRINGS = 16;
const MAX_STOP_LENGTH = 256;
const MAX_BAD_WORDS = 1024;

/** A request with everything looked up and checked: what can be refused is refused before the engine hears of it. */
interface CheckedRequest {
  readonly id: string;
  readonly model: ServedModel;
  readonly prompt: string;
  readonly promptTokenIds: readonly number[];
  readonly truncated: boolean;
  readonly params: SamplingParams;
}

function checkWords(argument: 'stop' | 'badWords', words: readonly string[], most: number): void {
  const fits = words.length <= most && words.every((word) => word.length > 0 && word.length <= MAX_STOP_LENGTH);
  if (fits) return;
  const message = `Expected ${argument} to be at most ${most} strings of 1 to ${MAX_STOP_LENGTH} characters; ${words.length} came, or one is empty or longer.`;
  throw new RuntimeError('BAD_USER_INPUT', message, { argument });
}

async function parseDecoding(model: ServedModel, decoding: DecodingOptions): Promise<SamplingParams> {
  const badWords = decoding.badWords ?? [];
  checkWords('stop', decoding.stop ?? [], MAX_STOP_STRINGS);
  checkWords('badWords', badWords, MAX_BAD_WORDS);
  const encoded = await Promise.all(badWords.map((word) => model.tokenizer.encode(word, { addSpecialTokens: false })));
  return parseSamplingParams(decoding, {
    defaults: model.generationDefaults,
    badWordsIds: encoded.filter((ids) => ids.length > 0),
    drawSeed: () => randomInt(2 ** 31),
    maxRows: model.maxRows,
  });
}

export class EngineTextGenerator implements TextGenerator {
  constructor(private readonly models: ModelDirectory) {}

  async prepare(request: TextRequest): Promise<Prepared<TextGeneration>> {
    const checked = await this.check(request);
    const { id, promptTokenIds, params, model } = checked;
    return {
      run: async (options = {}) => {
        const output = await model.engine.generate({ id, promptTokenIds, params, stream: false }, options);
        return finish(checked, output);
      },
    };
  }

  async generate(request: TextRequest, options?: CallOptions): Promise<TextGeneration> {
    return (await this.prepare(request)).run(options);
  }

  async *stream(request: TextRequest, options: CallOptions = {}): AsyncGenerator<TextGenerationEvent> {
    const prepared = await this.check(request);
    const { id, promptTokenIds, params, model } = prepared;
    const leaving = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, leaving.signal]) : leaving.signal;
    const inbox = new TokenInbox();
    const running = model.engine
      .generate({ id, promptTokenIds, params, stream: true }, { signal, onTokens: (event) => inbox.add(event) })
      .finally(() => inbox.close());
    // whoever awaits `running` below hears of a failure; a reader that left does not
    running.catch(() => {});
    const streamers = Array.from(
      { length: params.numReturnSequences },
      () => new TextStreamer(model.tokenizer, params.stop),
    );
    try {
      for await (const { sequenceIndex, tokenIds } of inbox.drain()) {
        const text = await streamers[sequenceIndex]?.push(tokenIds);
        if (text) yield { type: 'tokens', generationId: id, sequenceIndex, text, tokenIds };
      }
      const generation = await finish(prepared, await running);
      for (const { index, text } of generation.sequences) {
        const rest = streamers[index]?.finish(text);
        if (rest) yield { type: 'tokens', generationId: id, sequenceIndex: index, text: rest, tokenIds: [] };
      }
      yield { type: 'finished', generationId: id, generation };
    } finally {
      leaving.abort();
    }
  }

  private async check({ prompt, modelId, decoding, onOverflow }: TextRequest): Promise<CheckedRequest> {
    const model = this.models.get(modelId);
    const params = await parseDecoding(model, decoding ?? {});
    const ids = await model.tokenizer.encode(prompt);
    const most = model.config.maxInputTokens;
    const id = randomUUID();
    if (ids.length === 0) {
      throw new RuntimeError('BAD_USER_INPUT', 'Expected a prompt of at least one token, an empty one came.', {
        argument: 'prompt',
      });
    }
    if (ids.length <= most) return { id, model, prompt, promptTokenIds: ids, truncated: false, params };
    if (onOverflow === 'error') throw inputTooLong(ids.length, most);
    const cut = await truncate(model, prompt, ids.length - most);
    return { id, model, ...cut, truncated: true, params };
  }
}

export function inputTooLong(came: number, most: number): RuntimeError {
  const message = `Expected at most ${most} input tokens, ${came} came. Shorten the text or ask for onOverflow: TRUNCATE.`;
  return new RuntimeError('INPUT_TOO_LONG', message, { argument: 'onOverflow' });
}

/** Drops the last `surplus` tokens of the text; the special tokens at its end stay. */
async function truncate(
  model: ServedModel,
  prompt: string,
  surplus: number,
): Promise<{ prompt: string; promptTokenIds: readonly number[] }> {
  const tokens = await model.tokenizer.encodeWithOffsets(prompt);
  const textEnd = tokens.findLastIndex(({ end }) => end !== undefined) + 1;
  const kept = tokens.slice(0, Math.max(0, textEnd - surplus));
  const characters = [...prompt];
  return {
    prompt: characters.slice(0, kept.at(-1)?.end ?? 0).join(''),
    promptTokenIds: [...kept, ...tokens.slice(textEnd)].map(({ id }) => id),
  };
}

/** Tokens waiting to be read: at most one entry a sequence, however slow the reader is. */
class TokenInbox {
  private readonly waiting = new Map<number, number[]>();
  private closed = false;
  private wake: () => void = () => {};

  add({ sequenceIndex, tokenIds }: TokensAppended): void {
    const ids = this.waiting.get(sequenceIndex);
    if (ids === undefined) this.waiting.set(sequenceIndex, [...tokenIds]);
    else ids.push(...tokenIds);
    this.wake();
  }

  close(): void {
    this.closed = true;
    this.wake();
  }

  /** What waits, as it comes; ends when the inbox is closed and empty. */
  async *drain(): AsyncGenerator<TokensAppended> {
    while (true) {
      for (const [sequenceIndex, tokenIds] of this.waiting) {
        this.waiting.delete(sequenceIndex);
        yield { sequenceIndex, tokenIds };
      }
      if (this.waiting.size > 0) continue;
      if (this.closed) return;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }
}

async function finish(prepared: CheckedRequest, { sequences, timing }: GenerationOutput): Promise<TextGeneration> {
  const { id, model, prompt, promptTokenIds, truncated, params } = prepared;
  const texts = await Promise.all(sequences.map((sequence, index) => describe(model, params, sequence, index)));
  const completionTokens = sequences.reduce((sum, { tokens }) => sum + tokens.length, 0);
  return {
    id,
    model,
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

async function describe(
  model: ServedModel,
  params: SamplingParams,
  { tokens, score, finishReason }: GeneratedSequence,
  index: number,
): Promise<TextSequence> {
  const { tokenizer } = model;
  const tokenIds = tokens.map(({ id }) => id);
  const decoded = await tokenizer.decode(tokenIds);
  return {
    index,
    text: finishReason === 'stop' ? cutAtStop(decoded, params.stop) : decoded,
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
