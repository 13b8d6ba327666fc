/** Holds a reply against its request: what is wrong with it, and the tokens that an equal request must get too. */
import { createHash } from 'node:crypto';
import type { Reply, ReplyError, StreamEvent } from './load-client.ts';
import { aliasOf } from './load-documents.ts';
import type { BadRequest, GenerationPart, LoadRequest, TextQuery } from './load-request.ts';

export const OUTCOMES = ['answered', 'refused', 'cancelled', 'wrong', 'lost'] as const;
export type Outcome = (typeof OUTCOMES)[number];

export interface Fingerprint {
  readonly repeatId: string;
  /** Equal for equal answers. */
  readonly value: string;
}

export interface Verdict {
  readonly outcome: Outcome;
  /** What is wrong; set where the outcome is wrong or lost. */
  readonly problem?: string;
  readonly fingerprints: readonly Fingerprint[];
  readonly newTokens: number;
}

interface SequenceReply {
  readonly text: string;
  readonly tokenIds: readonly number[];
  readonly finishReason: string;
  readonly tokens?: readonly { readonly id: number; readonly alternatives: readonly unknown[] }[];
}

interface GenerationReply {
  readonly seed: number | null;
  readonly usage: { readonly promptTokens: number; readonly completionTokens: number };
  readonly sequences: readonly SequenceReply[];
}

interface SummaryReply {
  readonly text: string;
  readonly alternatives: readonly string[];
  readonly generation: GenerationReply;
}

class WrongReply extends Error {}

/** `expected` and `came` are compared as JSON. */
function expectEqual(what: string, came: unknown, expected: unknown): void {
  if (JSON.stringify(came) === JSON.stringify(expected)) return;
  throw new WrongReply(`expected ${what} ${JSON.stringify(expected)}, ${JSON.stringify(came)} came`);
}

function expectThat(holds: boolean, what: string, came: unknown): void {
  if (!holds) throw new WrongReply(`expected ${what}, ${JSON.stringify(came)} came`);
}

function checkSequence({ text, tokenIds, finishReason, tokens }: SequenceReply, { decoding }: GenerationPart['input']) {
  const { maxNewTokens, minNewTokens = 1, stop = [], topLogprobs } = decoding;
  const fewest = stop.length > 0 ? 1 : minNewTokens;
  const count = tokenIds.length;
  expectThat(count >= fewest && count <= maxNewTokens, `${fewest} to ${maxNewTokens} new tokens`, count);
  expectThat(finishReason === 'STOP' || finishReason === 'LENGTH', 'finish reason STOP or LENGTH', finishReason);
  if (finishReason === 'LENGTH') expectEqual('new tokens of a sequence at its limit', count, maxNewTokens);
  for (const word of stop) expectThat(!text.includes(word), `a text without stop string ${JSON.stringify(word)}`, text);
  if (topLogprobs === undefined || tokens === undefined) return;
  const ids = tokens.map(({ id }) => id);
  expectEqual('ids of the tokens', ids, tokenIds);
  for (const { alternatives } of tokens) expectEqual('alternatives of a token', alternatives.length, topLogprobs);
}

function checkGeneration(
  { repeatId, input }: GenerationPart,
  { seed, usage, sequences }: GenerationReply,
): Fingerprint {
  const { doSample, numReturnSequences = 1, seed: askedSeed = null } = input.decoding;
  expectEqual('number of sequences', sequences.length, numReturnSequences);
  expectEqual('seed', seed, doSample ? askedSeed : null);
  for (const sequence of sequences) checkSequence(sequence, input);
  const completionTokens = sequences.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0);
  expectEqual('completion tokens', usage.completionTokens, completionTokens);
  expectThat(usage.promptTokens > 0, 'prompt tokens', usage.promptTokens);
  return { repeatId, value: JSON.stringify(sequences.map(({ tokenIds }) => tokenIds)) };
}

function checkPart(part: GenerationPart, reply: unknown): Omit<Verdict, 'outcome'> {
  let generation = reply as GenerationReply;
  if (part.field === 'summarize') {
    const summary = reply as SummaryReply;
    generation = summary.generation;
    const texts = generation.sequences.map(({ text }) => text);
    expectEqual('summary and alternatives', [summary.text, ...summary.alternatives], texts);
  }
  return { fingerprints: [checkGeneration(part, generation)], newTokens: generation.usage.completionTokens };
}

/** Joined, the deltas of each sequence are its text and its ids. */
function checkEvents(part: GenerationPart, events: readonly StreamEvent[]): Omit<Verdict, 'outcome'> {
  const last = events.at(-1);
  expectEqual('last event', last?.__typename, 'GenerationFinished');
  expectEqual('events of one generation', new Set(events.map(({ generationId }) => generationId)).size, 1);
  const { sequences, usage, ...others } = (last as { readonly generation: GenerationReply }).generation;
  const joined = sequences.map(() => ({ text: '', tokenIds: [] as number[] }));
  for (const event of events.slice(0, -1)) {
    if (event.__typename !== 'TokensAppended') throw new WrongReply('expected one end of a stream, two came');
    const sequence = joined[event.sequenceIndex];
    if (sequence === undefined) throw new WrongReply(`expected a sequence of the request, ${event.sequenceIndex} came`);
    sequence.text += event.text;
    sequence.tokenIds.push(...event.tokenIds);
  }
  const whole = sequences.map(({ text, tokenIds }) => ({ text, tokenIds }));
  expectEqual('joined deltas', joined, whole);
  return {
    fingerprints: [checkGeneration(part, { sequences, usage, ...others })],
    newTokens: usage.completionTokens,
  };
}

function checkTokenization(reply: unknown): void {
  const { ids, tokenCount, tokens } = reply as { ids: number[]; tokenCount: number; tokens: { id: number }[] };
  expectEqual('token count', tokenCount, ids.length);
  const tokenIds = tokens.map(({ id }) => id);
  expectEqual('ids of the tokens', tokenIds, ids);
  expectThat(ids.length > 0, 'tokens', ids);
}

const LENGTH_TOLERANCE = 1e-5;

function checkEmbeddings(input: TextQuery['input'], reply: unknown): void {
  const embeddings = reply as readonly { tokenIds: number[]; vectors: number[][]; dimension: number }[];
  const { texts, pooling, normalize } = input as { texts: string[]; pooling: string; normalize: boolean };
  expectEqual('number of embeddings', embeddings.length, texts.length);
  for (const { tokenIds, vectors, dimension } of embeddings) {
    expectEqual('number of vectors', vectors.length, pooling === 'MEAN' ? 1 : tokenIds.length);
    for (const vector of vectors) {
      expectEqual('dimension', vector.length, dimension);
      const length = Math.hypot(...vector);
      const fits = normalize ? Math.abs(length - 1) < LENGTH_TOLERANCE : length > 0 && Number.isFinite(length);
      expectThat(fits, normalize ? 'a vector of length 1' : 'a vector of finite length', length);
    }
  }
}

function checkPrompt(input: TextQuery['input'], reply: unknown): void {
  const { text, tokenCount, shotCount } = reply as { text: string; tokenCount: number; shotCount: number };
  const { dialogue, shots } = input as { dialogue: string; shots: readonly unknown[] };
  expectThat(text.includes(dialogue), 'a prompt with its dialogue', text);
  expectEqual('number of shots', shotCount, shots.length);
  expectThat(tokenCount > 0, 'a number of tokens', tokenCount);
}

function checkQuery({ field, input, repeatId }: TextQuery, reply: unknown): Omit<Verdict, 'outcome'> {
  switch (field) {
    case 'tokenize':
      checkTokenization(reply);
      break;
    case 'embed':
      checkEmbeddings(input, reply);
      break;
    case 'buildPrompt':
      checkPrompt(input, reply);
      break;
    default:
      field satisfies never;
  }
  // vectors are long: what they hash to says whether they are equal
  const value = createHash('sha256').update(JSON.stringify(reply)).digest('hex');
  return { fingerprints: [{ repeatId, value }], newTokens: 0 };
}

function checkRefusal({ code, argument, limit }: BadRequest, errors: readonly ReplyError[]): void {
  const { code: cameCode, argument: cameArgument, limit: cameLimit } = errors[0]?.extensions ?? {};
  expectEqual('error', [cameCode, cameArgument, cameLimit], [code, argument, limit]);
}

function checkAnswer(request: LoadRequest, data: Readonly<Record<string, unknown>>): Omit<Verdict, 'outcome'> {
  switch (request.type) {
    case 'generate': {
      const checked = request.parts.map((part, index) => checkPart(part, data[aliasOf(index)]));
      return {
        fingerprints: checked.flatMap(({ fingerprints }) => fingerprints),
        newTokens: checked.reduce((sum, { newTokens }) => sum + newTokens, 0),
      };
    }
    case 'abort':
      return checkPart(request.part, data[aliasOf(0)]);
    case 'query':
      return checkQuery(request.query, data[request.query.field]);
    default:
      throw new WrongReply(`expected no answer, ${JSON.stringify(data)} came`);
  }
}

const NOTHING = { fingerprints: [], newTokens: 0 } as const;

function judge(request: LoadRequest, reply: Reply): Verdict {
  switch (reply.type) {
    case 'lost':
      return { outcome: 'lost', problem: reply.reason, ...NOTHING };
    case 'cancelled':
      return { outcome: 'cancelled', ...NOTHING };
    case 'errors':
      if (request.type !== 'refused') throw new WrongReply(`expected an answer, ${JSON.stringify(reply.errors)} came`);
      checkRefusal(request.bad, reply.errors);
      return { outcome: 'refused', ...NOTHING };
    case 'answer':
      return { outcome: 'answered', ...checkAnswer(request, reply.data ?? {}) };
    case 'events':
      if (request.type === 'stream' || request.type === 'leave') {
        return { outcome: 'answered', ...checkEvents(request.part, reply.events) };
      }
      throw new WrongReply(`expected no events, ${reply.events.length} came`);
    default:
      return reply satisfies never;
  }
}

/** Never throws: an answer that does not even have the shape of one is wrong. */
export function checkReply(request: LoadRequest, reply: Reply): Verdict {
  try {
    return judge(request, reply);
  } catch (error) {
    return { outcome: 'wrong', problem: error instanceof WrongReply ? error.message : String(error), ...NOTHING };
  }
}
