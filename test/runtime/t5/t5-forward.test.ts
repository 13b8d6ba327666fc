/** Encoder states and logits are transformers' (computed in float64), within 1e-4, for every way the weights are stored. */
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { loadRunner } from '../../support/engine-harness.ts';
import { forward, largestDifference } from '../../support/forced-tokens.ts';
import { oracleTest, readJsonFile, repositoryPath, sharedPath } from '../../support/oracle.ts';

interface ForwardRow {
  readonly inputIds: readonly number[];
  readonly decoderInputIds: readonly number[];
  readonly encoderStates: readonly (readonly number[])[];
  readonly logits: readonly (readonly number[])[];
}

async function checkForward(
  parent: string,
  name: string,
  expectedPath: string,
  options: Parameters<typeof loadRunner>[2] = {},
): Promise<void> {
  const rows = readJsonFile<readonly ForwardRow[]>(expectedPath);
  const { runner } = await loadRunner(parent, name, options);
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

for (const name of ['t5-relu-tied', 't5-gated-untied']) {
  test(`${name}, decoding in a loop: two rows`, () => {
    const fixtures = repositoryPath('test/fixtures');
    return checkForward(fixtures, name, join(fixtures, name, 'expected/forward.json'), { decodeLoop: true });
  });
  oracleTest(`${name}, decoding in a loop: every row of the oracle`, `oracle/models/${name}`, (path) =>
    checkForward(dirname(path), name, join(path, 'expected/forward.json'), { decodeLoop: true }),
  );
}

oracleTest('shards = one file', 'oracle/models/t5-gated-untied-sharded', (path) =>
  checkForward(
    dirname(path),
    't5-gated-untied-sharded',
    sharedPath('oracle/models/t5-gated-untied/expected/forward.json'),
  ),
);
