/** The logits of given tokens: what a model says of them step by step. */
import assert from 'node:assert/strict';
import type { DecodingStrategy } from '../../src/runtime/decoding/decoding-strategy.ts';
import { parseSamplingParams } from '../../src/runtime/decoding/parse-sampling-params.ts';
import { Engine } from '../../src/runtime/engine/engine.ts';
import type { ModelRunner } from '../../src/runtime/engine/model-runner.ts';
import type { WeightedAdapter } from '../../src/runtime/lora/lora-weights.ts';

export interface ForcedRow {
  readonly inputIds: readonly number[];
  readonly decoderInputIds: readonly number[];
  readonly adapters?: readonly WeightedAdapter[];
}

/** Feeds the given tokens whatever the model says, and keeps the logits of each step. */
class ForcedTokens implements DecodingStrategy {
  readonly logits: Float32Array[] = [];

  constructor(private readonly tokenIds: readonly number[]) {}

  running(): ReturnType<DecodingStrategy['running']> {
    const newTokenIds = this.tokenIds.slice(1, this.logits.length + 1);
    return [{ sequenceIndex: 0, newTokenIds, score: 0 }];
  }

  needs(): ReturnType<DecodingStrategy['needs']> {
    return [{ topCount: 1, askedIds: [], allLogits: true, orderOnly: false }];
  }

  advance([scores]: Parameters<DecodingStrategy['advance']>[0]): ReturnType<DecodingStrategy['advance']> {
    if (scores?.logits !== undefined) this.logits.push(scores.logits.slice());
    const tokenId = this.tokenIds[this.logits.length];
    return { nextRows: tokenId === undefined ? [] : [{ parent: 0, tokenId }], appended: [] };
  }

  sequences(): ReturnType<DecodingStrategy['sequences']> {
    return [];
  }
}

/** The logits of every row's steps, all rows in one batch. */
export async function forward(
  runner: ModelRunner,
  rows: readonly ForcedRow[],
): Promise<readonly (readonly Float32Array[])[]> {
  const strategies = rows.map(({ decoderInputIds }) => new ForcedTokens(decoderInputIds));
  const waiting = [...strategies];
  const engine = new Engine(
    runner,
    {
      maxRows: 64,
      prefillTokens: 512,
      timeSliceSteps: 1000,
      now: () => 0,
      createStrategy: () => waiting.shift() as ForcedTokens,
    },
    {
      onTokens: () => {},
      onFinished: () => {},
      onFailed: (_, error) => {
        throw error;
      },
    },
  );
  const params = parseSamplingParams({}, { defaults: {}, badWordsIds: [], drawSeed: () => 1, maxRows: 64 });
  for (const [index, { inputIds, adapters = [] }] of rows.entries()) {
    engine.submit({ id: `${index}`, promptTokenIds: inputIds, params, stream: false, adapters });
  }
  while (engine.hasWork) await engine.step();
  return strategies.map(({ logits }) => logits);
}

export function largestDifference(actual: ArrayLike<number>, expected: readonly number[]): number {
  assert.equal(actual.length, expected.length);
  return expected.reduce((most, value, index) => Math.max(most, Math.abs(value - (actual[index] as number))), 0);
}
