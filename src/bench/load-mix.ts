/**
 * The requests of a sustained load, one after the other, from a seed. They are dealt in rounds: each round has every
 * kind in the same numbers, in another order. A share of them is an earlier request again, perhaps sent another way.
 */
import { badRequests } from './bad-requests.ts';
import { writeDialogue } from './dialogue-writer.ts';
import type { AskedDecoding, GenerationPart, LoadKind, LoadRequest, TextQuery } from './load-request.ts';
import { SeededRandom } from './seeded-random.ts';

/** How many requests of each kind a round has. */
const ROUND: Readonly<Record<LoadKind, number>> = {
  greedy: 6,
  sampling: 5,
  beams: 4,
  sequences: 3,
  stop: 3,
  aliases: 2,
  generationStream: 4,
  summaryStream: 3,
  tokenize: 2,
  embed: 1,
  buildPrompt: 1,
  refused: 3,
  abortedRequest: 1,
  endedStream: 1,
  closedSocket: 1,
};

const deck = Object.entries(ROUND).flatMap(([kind, count]) => Array.from({ length: count }, () => kind as LoadKind));

/** Requests after which every kind has been dealt. */
export const ROUND_LENGTH = deck.length;

const decodingKinds = ['greedy', 'sampling', 'beams', 'sequences', 'stop'] as const;
type DecodingKind = (typeof decodingKinds)[number];

const REPEATED_SHARE = 0.25;
/** Earlier requests that may come again, of each kind of decoding; the oldest ones go at random, some stay long. */
const REMEMBERED = 16;
/** Long enough to be still running when it is left. */
const LEFT_NEW_TOKENS = 256;

const TEMPLATES = ['what-was-going-on', 'briefly-summarize', 'what-were-they-talking-about'] as const;

export interface MixOptions {
  readonly seed: number;
  /** Source tokens that the model takes: one bad request has more. */
  readonly maxInputTokens: number;
}

export class RequestMix {
  private readonly random: SeededRandom;
  private readonly remembered = new Map<string, (GenerationPart | TextQuery)[]>();
  private round: LoadKind[] = [];
  private index = 0;

  constructor(private readonly options: MixOptions) {
    this.random = new SeededRandom(options.seed);
  }

  next(): LoadRequest {
    if (this.round.length === 0) this.round = [...this.random.shuffled(deck)];
    const kind = this.round.pop() as LoadKind;
    const request = this.deal(kind, this.index);
    this.index++;
    return request;
  }

  private deal(kind: LoadKind, index: number): LoadRequest {
    const { random } = this;
    switch (kind) {
      case 'greedy':
      case 'sampling':
      case 'beams':
      case 'sequences':
      case 'stop':
        return { index, kind, type: 'generate', parts: [this.part(kind, String(index))] };
      case 'aliases': {
        const count = random.whole(2, 4);
        const parts = Array.from({ length: count }, (_, alias) =>
          this.part(random.pick(decodingKinds), `${index}.${alias}`),
        );
        return { index, kind, type: 'generate', parts };
      }
      case 'generationStream':
      case 'summaryStream': {
        const field = kind === 'generationStream' ? 'generate' : 'summarize';
        return { index, kind, type: 'stream', part: this.part(random.pick(decodingKinds), String(index), field) };
      }
      case 'tokenize':
      case 'embed':
      case 'buildPrompt':
        return { index, kind, type: 'query', query: this.textQuery(kind, String(index)) };
      case 'refused': {
        const text = writeDialogue(random, random.whole(2, 6));
        return { index, kind, type: 'refused', bad: random.pick(badRequests(text, this.options.maxInputTokens)) };
      }
      case 'abortedRequest':
        return { index, kind, type: 'abort', part: this.longPart(index), afterMs: random.whole(5, 500) };
      case 'endedStream':
      case 'closedSocket': {
        const how = kind === 'endedStream' ? 'complete' : 'terminate';
        return { index, kind, type: 'leave', part: this.longPart(index), how, afterEvents: random.whole(1, 8) };
      }
      default:
        return kind satisfies never;
    }
  }

  /** An earlier request under `name` again, or a new one, which is then remembered. */
  private repeated<T extends GenerationPart | TextQuery>(name: string, create: () => T): T {
    const { random } = this;
    const earlier = (this.remembered.get(name) ?? []) as T[];
    this.remembered.set(name, earlier);
    const [first, ...others] = earlier;
    if (first !== undefined && random.chance(REPEATED_SHARE)) return random.pick([first, ...others]);
    const created = create();
    if (earlier.length < REMEMBERED) earlier.push(created);
    else earlier[random.whole(0, REMEMBERED - 1)] = created;
    return created;
  }

  private part(kind: DecodingKind, repeatId: string, asked?: GenerationPart['field']): GenerationPart {
    const field = asked ?? this.random.pick(['summarize', 'generate']);
    return this.repeated(`${field} ${kind}`, () => this.newPart(field, decodingOf(kind, this.random), repeatId));
  }

  private longPart(index: number): GenerationPart {
    const decoding = {
      doSample: false,
      numBeams: this.random.pick([1, 1, 3]),
      maxNewTokens: LEFT_NEW_TOKENS,
      minNewTokens: LEFT_NEW_TOKENS,
    };
    return this.newPart(this.random.pick(['summarize', 'generate']), decoding, String(index));
  }

  private newPart(field: GenerationPart['field'], decoding: AskedDecoding, repeatId: string): GenerationPart {
    const { random } = this;
    const text = writeDialogue(random, turnCount(random));
    if (field === 'generate') {
      const prompt = random.chance(0.5) ? text : `Summarize the following conversation.\n\n${text}\n\nSummary:`;
      return { repeatId, field, input: { prompt, onOverflow: 'TRUNCATE', decoding } };
    }
    const template = random.chance(0.3) ? { template: random.pick(TEMPLATES) } : {};
    const shots = random.chance(0.2) ? { shots: writeShots(random, random.whole(1, 2)) } : {};
    return { repeatId, field, input: { text, ...template, ...shots, decoding } };
  }

  private textQuery(field: TextQuery['field'], repeatId: string): TextQuery {
    const { random } = this;
    return this.repeated(field, () => {
      const dialogue = writeDialogue(random, random.whole(2, 6));
      switch (field) {
        case 'tokenize':
          return { repeatId, field, input: { text: dialogue, addSpecialTokens: random.chance(0.5) } };
        case 'buildPrompt': {
          const shots = writeShots(random, random.whole(0, 2));
          return { repeatId, field, input: { dialogue, shots, template: random.pick(TEMPLATES) } };
        }
        case 'embed': {
          const texts = Array.from({ length: random.whole(1, 3) }, () => writeDialogue(random, random.whole(1, 3)));
          const [layer, pooling] = [random.pick(['ENCODER', 'INPUT']), random.pick(['MEAN', 'NONE'])];
          return { repeatId, field, input: { texts, layer, pooling, normalize: random.chance(0.5) } };
        }
        default:
          return field satisfies never;
      }
    });
  }
}

/** Short, middling, long, and some that small models have to cut. */
function turnCount(random: SeededRandom): number {
  const [low, high] = random.pick<readonly [number, number]>([
    [2, 4],
    [2, 4],
    [2, 4],
    [5, 12],
    [5, 12],
    [5, 12],
    [13, 25],
    [13, 25],
    [30, 60],
  ]);
  return random.whole(low, high);
}

function writeShots(random: SeededRandom, count: number): readonly object[] {
  return Array.from({ length: count }, () => ({
    dialogue: writeDialogue(random, random.whole(2, 4)),
    summary: '#Person1# asks and #Person2# answers.',
  }));
}

function sampled(random: SeededRandom): AskedDecoding {
  return {
    doSample: true,
    maxNewTokens: newTokens(random),
    seed: random.whole(0, 2 ** 31 - 1),
    ...(random.chance(0.7) ? { temperature: random.decimal(0.5, 1.5) } : {}),
    ...(random.chance(0.5) ? { topK: random.pick([0, 5, 20, 100]) } : {}),
    ...(random.chance(0.5) ? { topP: random.decimal(0.5, 1) } : {}),
    ...(random.chance(0.2) ? { minP: random.decimal(0, 0.2) } : {}),
    ...(random.chance(0.2) ? { typicalP: random.decimal(0.5, 1) } : {}),
  };
}

function searched(random: SeededRandom, numBeams: number): AskedDecoding {
  return {
    doSample: false,
    maxNewTokens: newTokens(random),
    numBeams,
    ...(random.chance(0.5) ? { lengthPenalty: random.decimal(0, 2) } : {}),
    ...(random.chance(0.5) ? { earlyStopping: random.pick(['HEURISTIC', 'NEVER', 'WHEN_BEAMS_FINISH']) } : {}),
  };
}

function greedy(random: SeededRandom): AskedDecoding {
  const minNewTokens = random.whole(1, 8);
  return {
    doSample: false,
    maxNewTokens: newTokens(random),
    numBeams: 1,
    ...(random.chance(0.3) ? { minNewTokens } : {}),
    ...(random.chance(0.2) ? { repetitionPenalty: random.decimal(1, 1.5) } : {}),
    ...(random.chance(0.2) ? { noRepeatNgramSize: random.whole(0, 3) } : {}),
    ...(random.chance(0.2) ? { topLogprobs: random.whole(0, 5) } : {}),
  };
}

function newTokens(random: SeededRandom): number {
  return random.pick([8, 16, 24, 32, 48, 64, 96]);
}

function decodingOf(kind: DecodingKind, random: SeededRandom): AskedDecoding {
  switch (kind) {
    case 'greedy':
      return greedy(random);
    case 'sampling':
      return sampled(random);
    case 'beams':
      return searched(random, random.whole(2, 4));
    case 'sequences': {
      const count = random.whole(2, 4);
      const decoding = random.chance(0.5) ? sampled(random) : searched(random, 4);
      return { ...decoding, numReturnSequences: count };
    }
    case 'stop': {
      const decoding = random.pick([greedy, sampled, (own: SeededRandom) => searched(own, 2)])(random);
      return { ...decoding, stop: [random.pick(['.', ' the', ' and', 'Person2', 'er']), random.pick(['is', ' to '])] };
    }
    default:
      return kind satisfies never;
  }
}
