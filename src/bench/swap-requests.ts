/** What the measurements of adapters ask of a model. */
import { parseSamplingParams } from '../runtime/decoding/parse-sampling-params.ts';
import type { SamplingParams } from '../runtime/decoding/sampling-params.ts';

/** Exactly so many tokens. */
export function greedyParams(tokenCount: number, maxRows: number): SamplingParams {
  return parseSamplingParams(
    { maxNewTokens: tokenCount, minNewTokens: tokenCount },
    { defaults: {}, badWordsIds: [], drawSeed: () => 0, maxRows, logprobs: false },
  );
}
