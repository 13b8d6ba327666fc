/** How many steps a run makes: as many as nobody has to wait for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createStrategy } from '../../../src/runtime/decoding/create-strategy.ts';
import { parseSamplingParams } from '../../../src/runtime/decoding/parse-sampling-params.ts';
import type { DecodingOptions } from '../../../src/runtime/decoding/sampling-params.ts';
import { stepsOfRun } from '../../../src/runtime/engine/run-length.ts';
import { ScheduledRequest } from '../../../src/runtime/engine/scheduled-request.ts';
import { AdapterCombination } from '../../../src/runtime/lora/adapter-combination.ts';

interface Running {
  readonly options?: DecodingOptions;
  readonly stream?: boolean;
  /** Tokens that it has. */
  readonly made?: number;
}

/** A request that runs; every token that it has is 5. */
function running({ options = { maxNewTokens: 100 }, stream = false, made = 0 }: Running): ScheduledRequest {
  const params = parseSamplingParams(options, { defaults: {}, badWordsIds: [], drawSeed: () => 1, maxRows: 8 });
  const strategy = createStrategy(params, { eosTokenIds: [1], vocabularySize: 10, history: [0] });
  const asked = { id: 'one', promptTokenIds: [4, 1], params, stream, adapters: [] };
  const request = new ScheduledRequest(asked, strategy, { adapters: AdapterCombination.none, tokenId: 0, now: 0 });
  for (let token = 0; token < made; token++) {
    const rows = strategy.needs().length;
    const scores = {
      logSumExp: 0,
      topIds: [5, 6, 7, 8],
      topLogits: [-1, -2, -3, -4],
      askedLogits: [],
      logits: undefined,
    };
    const { nextRows } = strategy.advance(Array.from({ length: rows }, () => scores));
    request.paths.advance(nextRows.map(({ parent }) => parent));
    request.moments.firstToken ??= 1;
  }
  return request;
}

const free = { most: 64, awaited: 'nothing' } as const;

test('as many as the runner makes, where nobody waits and nobody reads along', () => {
  assert.equal(stepsOfRun([running({}), running({ made: 3 })], free), 64);
  assert.equal(stepsOfRun([running({})], { ...free, most: 1 }), 1);
});

test('as many as the shortest row has left, but not so few that a run is not worth its cost', () => {
  assert.equal(stepsOfRun([running({}), running({ options: { maxNewTokens: 20 }, made: 7 })], free), 13);
  assert.equal(stepsOfRun([running({}), running({ options: { maxNewTokens: 20 }, made: 19 })], free), 8);
});

test('few while others are about to join, more while they wait for rows', () => {
  assert.equal(stepsOfRun([running({})], { ...free, awaited: 'joining' }), 8);
  assert.equal(stepsOfRun([running({})], { most: 4, awaited: 'joining' }), 4);
  assert.equal(stepsOfRun([running({})], { ...free, awaited: 'rows' }), 32);
});

test('few for who reads along, fewest before the first token', () => {
  assert.equal(stepsOfRun([running({ stream: true, made: 2 })], free), 16);
  assert.equal(stepsOfRun([running({ stream: true }), running({ made: 9 })], free), 4);
});

test('one while beams or samples are a single row', () => {
  const beams = { maxNewTokens: 50, numBeams: 2 };
  assert.equal(stepsOfRun([running({}), running({ options: beams })], free), 1);
  assert.equal(stepsOfRun([running({}), running({ options: beams, made: 1 })], free), 49);
  assert.equal(stepsOfRun([running({ options: { doSample: true, numReturnSequences: 3 } })], free), 1);
});
