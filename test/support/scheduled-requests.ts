/** Requests as a scheduler sees them, that run nothing. */
import { createStrategy } from '../../src/runtime/decoding/create-strategy.ts';
import { parseSamplingParams } from '../../src/runtime/decoding/parse-sampling-params.ts';
import type { RequestPriority } from '../../src/runtime/engine/generation-request.ts';
import { ScheduledRequest } from '../../src/runtime/engine/scheduled-request.ts';
import { AdapterCombination } from '../../src/runtime/lora/adapter-combination.ts';

export function makeScheduled(id: string, priority: RequestPriority = 'interactive', numBeams = 1): ScheduledRequest {
  const params = parseSamplingParams(
    { numBeams },
    { defaults: {}, badWordsIds: [], drawSeed: () => 1, maxRows: 8, logprobs: false },
  );
  const context = { eosTokenIds: [1], history: [0], vocabularySize: 9, endOfText: () => '' };
  return new ScheduledRequest(
    { id, promptTokenIds: [3, 1], params, adapters: [], stream: false, priority },
    createStrategy(params, context),
    { adapters: AdapterCombination.none, tokenId: 0, now: 0 },
  );
}
