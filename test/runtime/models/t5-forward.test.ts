/** Encoder states and logits are transformers' (computed in float64), within 1e-4, for every way the weights are stored. */
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import type { DecodingStrategy } from '../../../src/runtime/decoding/decoding-strategy.ts';
import { Engine } from '../../../src/runtime/engine/engine.ts';
import type { T5Runner } from '../../../src/runtime/models/t5-runner.ts';
import { loadRunner } from '../../support/engine-harness.ts';
import { oracleTest, readJsonFile, repositoryPath, sharedPath } from '../../support/oracle.ts';

interface ForwardRow {
  readonly inputIds: readonly number[];
  readonly decoderInputIds: readonly number[];
  readonly encoderStates: readonly (readonly number[])[];
  readonly logits: readonly (readonly number[])[];
}

/** Feeds the given tokens whatever the model says, and keeps the logits of each step. */
class ForcedTokens implements DecodingStrategy {
  readonly logits: Float32Array[] = [];

  constructor(private readonly tokenIds: readonly number[]) {}

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
async function forward(runner: T5Runner, rows: readonly ForwardRow[]): Promise<readonly (readonly Float32Array[])[]> {
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
  const params = { numBeams: 1, numReturnSequences: 1 } as Parameters<Engine['submit']>[0]['params'];
  for (const [index, { inputIds }] of rows.entries()) {
    engine.submit({ id: `${index}`, promptTokenIds: inputIds, params, stream: false });
  }
  while (engine.hasWork) await engine.step();
  return strategies.map(({ logits }) => logits);
}

function largestDifference(actual: ArrayLike<number>, expected: readonly number[]): number {
  assert.equal(actual.length, expected.length);
  return expected.reduce((most, value, index) => Math.max(most, Math.abs(value - (actual[index] as number))), 0);
}

async function checkForward(parent: string, name: string, expectedPath: string): Promise<void> {
  const rows = readJsonFile<readonly ForwardRow[]>(expectedPath);
  const { runner } = await loadRunner(parent, name);
  const logits = await forward(runner, rows);
  for (const [index, row] of rows.entries()) {
    const states = await runner.embed(row.inputIds, 'encoder');
    assert.ok(largestDifference(states, row.encoderStates.flat()) <= 1e-4, `${name} states of row ${index}`);
    for (const [step, expected] of row.logits.entries()) {
      const difference = largestDifference(logits[index]?.[step] ?? [], expected);
      assert.ok(difference <= 1e-4, `${name} logits of row ${index} step ${step}: ${difference}`);
    }
  }
  await runner.dispose();
}

for (const name of ['t5-relu-tied', 't5-gated-untied']) {
  const fixtures = repositoryPath('test/fixtures');
  test(`${name}: two rows`, () => checkForward(fixtures, name, join(fixtures, name, 'expected/forward.json')));
}

for (const name of ['t5-relu-tied', 't5-gated-untied', 't5-gated-untied-float16', 't5-gated-untied-bfloat16']) {
  oracleTest(`${name}: every row of the oracle`, `oracle/models/${name}`, (path) =>
    checkForward(dirname(path), name, join(path, 'expected/forward.json')),
  );
}

oracleTest('shards = one file', 'oracle/models/t5-gated-untied-sharded', (path) =>
  checkForward(
    dirname(path),
    't5-gated-untied-sharded',
    sharedPath('oracle/models/t5-gated-untied/expected/forward.json'),
  ),
);
