/** 10,000 changed copies of good folders: each loads with finite values or is refused by its code, and none hangs. */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { RuntimeError } from '../../../src/runtime/errors.ts';
import { parseConfig } from '../../../src/runtime/models/parse-config.ts';
import { type AdapterBase, type LoadedAdapter, readAdapter } from '../../../src/runtime/peft/read-adapter.ts';
import { GOOD_KINDS, mutate, readAdapterFiles, writeAdapterFiles } from '../../support/mutated-files.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';
import { type TinyAdapterOptions, writeTinyAdapter } from '../../support/tiny-adapter.ts';
import { writeTinyModel } from '../../support/tiny-model.ts';

const SEED = 20_261_124;
const ROUNDS = 2500;
const MAX_RANK = 16;
const LONGEST_MESSAGE = 1200;

function assertFinite({ weights, facts }: LoadedAdapter): void {
  const arrays = weights.factors.flatMap(({ a, b, gainChange }) => [
    a,
    b,
    ...(gainChange === undefined ? [] : [gainChange]),
  ]);
  for (const array of [...arrays, ...(weights.head === undefined ? [] : [weights.head])]) {
    assert.ok(array.every((value) => Number.isFinite(value)));
  }
  assert.ok(weights.factors.every(({ rank }) => rank >= 1 && rank <= MAX_RANK));
  assert.ok(facts.modules.length > 0);
}

function assertRefusal(error: unknown): 'INVALID_ADAPTER' | 'INCOMPATIBLE_ADAPTER' {
  assert.ok(error instanceof RuntimeError, `${error instanceof Error ? error.stack : error}`);
  assert.ok(
    error.code === 'INVALID_ADAPTER' || error.code === 'INCOMPATIBLE_ADAPTER',
    `${error.code}: ${error.message}`,
  );
  assert.ok(error.message.length < LONGEST_MESSAGE, `a message of ${error.message.length} characters`);
  return error.code;
}

async function goodFolder(t: TestContext, options: TinyAdapterOptions): Promise<{ folder: string; base: AdapterBase }> {
  const model = await writeTinyModel(t);
  const { folder } = await writeTinyAdapter(model.parent, 'adapter', options);
  return { folder, base: { modelFolder: model.folder, config: parseConfig(model.config) } };
}

/** Changes one folder ROUNDS times; returns how often it loaded or was refused. */
async function run(
  t: TestContext,
  options: TinyAdapterOptions,
  seed: number,
): Promise<Readonly<Record<string, number>>> {
  const { folder, base } = await goodFolder(t, options);
  const good = await readAdapterFiles(folder);
  assertFinite(await readAdapter(folder, base, { maxRank: MAX_RANK }));
  const next = seededNumbers(seed);
  const outcomes = { LOADED: 0, INVALID_ADAPTER: 0, INCOMPATIBLE_ADAPTER: 0 };
  for (let round = 0; round < ROUNDS; round++) {
    await writeAdapterFiles(folder, mutate(good, next));
    try {
      assertFinite(await readAdapter(folder, base, { maxRank: MAX_RANK }));
      outcomes.LOADED++;
    } catch (error) {
      outcomes[assertRefusal(error)]++;
    }
  }
  return outcomes;
}

// side by side: each waits for the disk most of its time
describe('changed folders load with finite values or are refused', { concurrency: true }, () => {
  for (const [index, [kind, options]] of Object.entries(GOOD_KINDS).entries()) {
    test(`${ROUNDS} of kind ${kind}`, async (t) => {
      const seed = SEED + index;
      const outcomes = await run(t, options, seed);
      t.diagnostic(`seed ${seed}: ${JSON.stringify(outcomes)}`);
      assert.ok(
        Object.values(outcomes).every((count) => count > ROUNDS / 50),
        JSON.stringify(outcomes),
      );
    });
  }
});
