/** Chooses how a request is decoded. */
import { BeamSearch } from './beam-search.ts';
import type { DecodingStrategy } from './decoding-strategy.ts';
import { IndependentSearch } from './independent-search.ts';
import type { SamplingParams } from './sampling-params.ts';
import type { StrategyContext } from './strategy-context.ts';

/** Beams when `numBeams` > 1, else sampling or greedy search. */
export function createStrategy(params: SamplingParams, context: StrategyContext): DecodingStrategy {
  return params.numBeams > 1 ? new BeamSearch(params, context) : new IndependentSearch(params, context);
}
