/** Turns what a client asked for into complete settings, or says which argument cannot be honoured. */
import { RuntimeError } from '../errors.ts';
import type { DecodingOptions, SamplingParams } from './sampling-params.ts';

export interface ParseContext {
  /** What the model's own files say. */
  readonly defaults: DecodingOptions;
  readonly badWordsIds: readonly (readonly number[])[];
  /** Draws a seed when sampling was asked for without one. */
  readonly drawSeed: () => number;
  /** Whether log-probabilities or scores will be read. Default: true. */
  readonly logprobs?: boolean;
  /** Rows that may run at once: the most beams or sequences that can be asked for. */
  readonly maxRows: number;
}

/** Contract: "default: the model's generation_config, else 128". */
export const DEFAULT_MAX_NEW_TOKENS = 128;
/** transformers samples from the 50 best tokens unless told otherwise. */
const DEFAULT_TOP_K = 50;
const MAX_TOP_LOGPROBS = 20;
const LARGEST_INT = 2 ** 31 - 1;

const SAMPLING_ONLY = ['temperature', 'topK', 'topP', 'minP', 'typicalP', 'seed'] as const;
const BEAMS_ONLY = ['lengthPenalty', 'earlyStopping'] as const;

interface Range {
  readonly low: number;
  readonly high: number;
  readonly integer?: boolean;
  /** Whether `low` itself is refused. */
  readonly aboveLow?: boolean;
}

function rangesFor(maxRows: number): Partial<Record<keyof DecodingOptions, Range>> {
  const count = { low: 1, high: LARGEST_INT, integer: true };
  return {
    maxNewTokens: count,
    minNewTokens: { low: 0, high: LARGEST_INT, integer: true },
    temperature: { low: 0, high: 1000, aboveLow: true },
    topK: { low: 0, high: LARGEST_INT, integer: true },
    topP: { low: 0, high: 1, aboveLow: true },
    minP: { low: 0, high: 1 },
    typicalP: { low: 0, high: 1, aboveLow: true },
    numBeams: { low: 1, high: maxRows, integer: true },
    lengthPenalty: { low: -100, high: 100 },
    numReturnSequences: { low: 1, high: maxRows, integer: true },
    noRepeatNgramSize: { low: 0, high: LARGEST_INT, integer: true },
    repetitionPenalty: { low: 0, high: 1000, aboveLow: true },
    seed: { low: -LARGEST_INT - 1, high: LARGEST_INT, integer: true },
    topLogprobs: { low: 0, high: MAX_TOP_LOGPROBS, integer: true },
  };
}

function checkRanges(options: DecodingOptions, maxRows: number): void {
  for (const [argument, range] of Object.entries(rangesFor(maxRows))) {
    const value = options[argument as keyof DecodingOptions];
    if (value === undefined || value === null) continue;
    const { low, high, integer = false, aboveLow = false } = range;
    const fits =
      typeof value === 'number' &&
      Number.isFinite(value) &&
      (!integer || Number.isInteger(value)) &&
      value <= high &&
      (aboveLow ? value > low : value >= low);
    if (fits) continue;
    const kind = integer ? 'a whole number' : 'a number';
    const bounds = aboveLow ? `above ${low} and at most ${high}` : `from ${low} to ${high}`;
    throw new RuntimeError('BAD_USER_INPUT', `Expected ${argument} to be ${kind} ${bounds}, ${value} came.`, {
      argument,
    });
  }
}

function refuse(argument: string, reason: string): never {
  throw new RuntimeError('UNSUPPORTED_ARGUMENT', `${argument} cannot be honoured: ${reason}.`, { argument });
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}

/** Refuses what the request itself says but its strategy would have to ignore. */
function checkStrategy(options: DecodingOptions, settled: { doSample: boolean; numBeams: number }): void {
  const { doSample, numBeams } = settled;
  if (doSample && numBeams > 1) refuse('doSample', 'beams are searched, not sampled; leave out doSample or numBeams');
  for (const argument of SAMPLING_ONLY) {
    if (!doSample && isGiven(options[argument])) refuse(argument, 'it belongs to doSample: true');
  }
  for (const argument of BEAMS_ONLY) {
    if (numBeams === 1 && isGiven(options[argument])) refuse(argument, 'it belongs to numBeams above 1');
  }
  const { numReturnSequences } = options;
  if (!isGiven(numReturnSequences) || doSample) return;
  if (Number(numReturnSequences) > numBeams) {
    refuse(
      'numReturnSequences',
      `without doSample it is at most numBeams, which is ${numBeams}, and ${numReturnSequences} came`,
    );
  }
}

/** Whether tokens will be drawn: a strategy asked for in the request outranks the other one in the model's defaults. */
export function willSample(options: DecodingOptions, defaults: DecodingOptions): boolean {
  return options.doSample ?? ((options.numBeams ?? 1) > 1 ? false : (defaults.doSample ?? false));
}

/**
 * Merges the request over the model's defaults over those of transformers. What only the defaults say and the chosen
 * strategy has no use for is left aside. Throws BAD_USER_INPUT (out of range) or UNSUPPORTED_ARGUMENT.
 */
export function parseSamplingParams(options: DecodingOptions, context: ParseContext): SamplingParams {
  const { defaults, maxRows, badWordsIds } = context;
  checkRanges(options, maxRows);
  const pick = <K extends keyof DecodingOptions, F>(key: K, fallback: F): NonNullable<DecodingOptions[K]> | F =>
    options[key] ?? defaults[key] ?? fallback;
  const doSample = willSample(options, defaults);
  // defaults made for a larger server yield to this one's row limit
  const numBeams = options.numBeams ?? (doSample ? 1 : Math.min(defaults.numBeams ?? 1, maxRows));
  checkStrategy(options, { doSample, numBeams });
  const sampling = <F>(value: F, off: F): F => (doSample ? value : off);
  const fitting = Math.min(defaults.numReturnSequences ?? 1, doSample ? maxRows : numBeams);
  const maxNewTokens = pick('maxNewTokens', DEFAULT_MAX_NEW_TOKENS);
  const minNewTokens = options.minNewTokens ?? Math.min(defaults.minNewTokens ?? 0, maxNewTokens);
  if (minNewTokens > maxNewTokens) {
    const message = `Expected minNewTokens to be at most maxNewTokens, which is ${maxNewTokens}; ${minNewTokens} came.`;
    throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'minNewTokens' });
  }
  return {
    maxNewTokens,
    minNewTokens,
    doSample,
    temperature: sampling(pick('temperature', 1), 1),
    topK: sampling(pick('topK', DEFAULT_TOP_K), 0),
    topP: sampling(pick('topP', 1), 1),
    minP: sampling(pick('minP', 0), 0),
    typicalP: sampling(pick('typicalP', 1), 1),
    numBeams,
    lengthPenalty: numBeams > 1 ? pick('lengthPenalty', 1) : 1,
    earlyStopping: numBeams > 1 ? pick('earlyStopping', 'heuristic' as const) : 'heuristic',
    numReturnSequences: options.numReturnSequences ?? fitting,
    noRepeatNgramSize: pick('noRepeatNgramSize', 0),
    repetitionPenalty: pick('repetitionPenalty', 1),
    seed: doSample ? (options.seed ?? context.drawSeed()) : 0,
    stop: options.stop ?? [],
    badWordsIds,
    topLogprobs: pick('topLogprobs', 0),
    logprobs: context.logprobs ?? true,
  };
}
