/** Final states and logits of GPT-2 and Llama are transformers' (computed in float64), within 1e-4, however a text is cut. */
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { loadRunner } from '../../support/engine-harness.ts';
import { forward, largestDifference } from '../../support/forced-tokens.ts';
import { oracleTest, readJsonFile, repositoryPath } from '../../support/oracle.ts';

interface ForwardRow {
  readonly inputIds: readonly number[];
  readonly finalStates: readonly (readonly number[])[];
  readonly logits: readonly (readonly number[])[];
}

const TOLERANCE = 1e-4;

async function checkForward(parent: string, name: string): Promise<void> {
  const rows = readJsonFile<readonly ForwardRow[]>(join(parent, name, 'expected/forward.json'));
  const { runner } = await loadRunner(parent, name);
  // a prompt of every length, and the rest token by token
  const cuts = rows.flatMap(({ inputIds, logits }) =>
    inputIds.map((_, cut) => ({
      inputIds: inputIds.slice(0, cut + 1),
      decoderInputIds: inputIds.slice(cut),
      expected: logits.slice(cut),
    })),
  );
  const actual = await forward(runner, cuts);
  for (const [index, { expected, inputIds }] of cuts.entries()) {
    assert.equal(actual[index]?.length, expected.length);
    for (const [step, logits] of expected.entries()) {
      const difference = largestDifference(actual[index]?.[step] ?? [], logits);
      assert.ok(difference <= TOLERANCE, `${name}: logits ${step} behind [${inputIds}]: ${difference}`);
    }
  }
  for (const { inputIds, finalStates } of rows) {
    const difference = largestDifference(await runner.embed(inputIds, 'encoder'), finalStates.flat());
    assert.ok(difference <= TOLERANCE, `${name}: states of [${inputIds}]: ${difference}`);
  }
  await runner.dispose();
}

for (const name of ['gpt2', 'llama-gqa', 'llama-tied-rope3']) {
  test(`${name}: two rows`, () => checkForward(repositoryPath('test/fixtures'), name));
  oracleTest(`${name}: every row of the oracle`, `oracle/models/${name}`, (path) => checkForward(dirname(path), name));
}
