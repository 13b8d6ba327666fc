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

interface Checked {
  readonly parent: string;
  readonly name: string;
  readonly expectedPath: string;
  readonly options?: Parameters<typeof loadRunner>[2];
  /** Default: 1e-4. */
  readonly tolerance?: number;
}

async function checkForward({ parent, name, expectedPath, options = {}, tolerance = 1e-4 }: Checked): Promise<void> {
  const rows = readJsonFile<readonly ForwardRow[]>(expectedPath);
  const { runner } = await loadRunner(parent, name, options);
  const logits = await forward(runner, rows);
  for (const [index, row] of rows.entries()) {
    const states = await runner.embed(row.inputIds, 'encoder');
    const difference = largestDifference(states, row.encoderStates.flat());
    assert.ok(difference <= tolerance, `${name} states of row ${index}: ${difference}`);
    for (const [step, expected] of row.logits.entries()) {
      const difference = largestDifference(logits[index]?.[step] ?? [], expected);
      assert.ok(difference <= tolerance, `${name} logits of row ${index} step ${step}: ${difference}`);
    }
  }
  await runner.dispose();
}

for (const name of ['t5-relu-tied', 't5-gated-untied']) {
  const fixtures = repositoryPath('test/fixtures');
  const expectedPath = join(fixtures, name, 'expected/forward.json');
  test(`${name}: two rows`, () => checkForward({ parent: fixtures, name, expectedPath }));
}

for (const name of ['t5-relu-tied', 't5-gated-untied', 't5-gated-untied-float16', 't5-gated-untied-bfloat16']) {
  oracleTest(`${name}: every row of the oracle`, `oracle/models/${name}`, (path) =>
    checkForward({ parent: dirname(path), name, expectedPath: join(path, 'expected/forward.json') }),
  );
}

/** What is rounded to float16 has 11 bits: these models' logits were seen to move by up to 0.078. */
const HALF_TOLERANCE = 0.1;

const LOOPS = [
  { what: 'decoding in a loop', options: { decodeLoop: true }, tolerance: 1e-4 },
  { what: 'decoding in a loop in 16 bits', options: { precision: 'fp16' }, tolerance: HALF_TOLERANCE },
] as const;

for (const name of ['t5-relu-tied', 't5-gated-untied']) {
  for (const { what, options, tolerance } of LOOPS) {
    const check = (path: string): Promise<void> =>
      checkForward({
        parent: dirname(path),
        name,
        expectedPath: join(path, 'expected/forward.json'),
        options,
        tolerance,
      });
    test(`${name}, ${what}: two rows`, () => check(join(repositoryPath('test/fixtures'), name)));
    oracleTest(`${name}, ${what}: every row of the oracle`, `oracle/models/${name}`, check);
  }
}

oracleTest('shards = one file', 'oracle/models/t5-gated-untied-sharded', (path) =>
  checkForward({
    parent: dirname(path),
    name: 't5-gated-untied-sharded',
    expectedPath: sharedPath('oracle/models/t5-gated-untied/expected/forward.json'),
  }),
);
