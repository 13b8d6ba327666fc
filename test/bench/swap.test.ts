/** The measuring of swaps, on the tiny model: that everything is measured and told, not how long it took. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { measureSwaps, type SwapOptions } from '../../src/bench/swap.ts';
import { runSwapCommand } from '../../src/bench/swap-command.ts';
import { formatSwapReport } from '../../src/bench/swap-report.ts';
import { openTestServices } from '../support/open-services.ts';
import { writeTinyAdapter } from '../support/tiny-adapter.ts';
import { temporaryFolder, writeTinyModel } from '../support/tiny-model.ts';

const ROUNDS = 4;

async function setUp(t: TestContext, adapterCount: number): Promise<SwapOptions> {
  const { parent } = await writeTinyModel(t);
  const adaptersDir = await temporaryFolder(t);
  for (let seed = 1; seed <= adapterCount; seed++) await writeTinyAdapter(adaptersDir, `number-${seed}`, { seed });
  const { config, services } = await openTestServices(t, {
    GISTQL_MODEL: 'dir:tiny',
    GISTQL_MODELS_DIR: parent,
    GISTQL_ADAPTERS_DIR: adaptersDir,
    GISTQL_DATA_DIR: await temporaryFolder(t),
  });
  const signal = new AbortController().signal;
  return { config, services, roundCount: ROUNDS, beside: [0, 3], seed: 1, signal, onProgress: () => {} };
}

test('every round measures a swap and three requests without one, alone and beside others, and nothing is kept', async (t) => {
  const options = await setUp(t, 3);
  const result = await measureSwaps(options);
  assert.deepEqual(
    result.settings.map(({ besideCount }) => besideCount),
    [0, 3],
  );
  for (const { times } of result.settings) {
    for (const [kind, values] of Object.entries(times)) {
      assert.equal(values.length, ROUNDS, kind);
      for (const value of values) assert.ok(Number.isFinite(value) && value > 0, kind);
    }
  }
  const report = formatSwapReport(result);
  assert.match(report, /^\| adapters \| 3: LORA of rank 4 on q, v \|$/m);
  assert.match(report, /^\| nothing else running, 4 swaps \| p50 ms \| 95 % of p50 \| p95 ms \|$/m);
  assert.match(report, /^\| first token, right after a swap \| [\d.]+ \| [\d.]+ to [\d.]+ \| [\d.]+ \|$/m);
  assert.match(report, /^\| beside 3 running requests, 4 swaps \|/m);
  for (const [phase, values] of Object.entries(result.steps.times)) {
    for (const value of values) assert.ok(Number.isFinite(value) && value >= 0, phase);
  }
  // a tiny adapter may come between two steps
  assert.ok(result.steps.times.alone.length >= 20 * ROUNDS);
  assert.match(report, /^\| steps of 3 running requests, in ms \| steps \| p50 \| p95 \| greatest \|$/m);
  assert.match(report, /^\| an adapter is loaded \(\d+\.\d MiB: LORA of rank 4 on \d+ matrices\) \| \d+ \|/m);
  const { adapters, models } = options.services;
  assert.equal(models.get().engine.pendingCount, 0);
  for (const { id } of adapters.list()) assert.equal(await adapters.unload(id), true);
});

test('an end that comes early leaves what was measured until then', async (t) => {
  const options = await setUp(t, 2);
  const result = await measureSwaps({ ...options, signal: AbortSignal.abort() });
  assert.deepEqual(result.settings[1]?.times, { stay: [], again: [], back: [], swap: [], activate: [] });
  assert.deepEqual(result.steps.times, { alone: [], joining: [], loading: [], arriving: [] });
  assert.match(formatSwapReport(result), /^\| beside 3 running requests, 0 swaps \|/m);
});

test('one adapter is too few, and a folder that is not there has none', async (t) => {
  const options = await setUp(t, 1);
  await assert.rejects(measureSwaps(options), /Expected a folder of at least 2 adapters of tiny, .* has 1\. Name one/);
  const config = { ...options.config, adaptersDir: 'nowhere at all', modelSource: 'dir:tiny' };
  await options.services.models.unload('tiny');
  await assert.rejects(measureSwaps({ ...options, config }), /nowhere at all has none/);
});

test('arguments are checked before anything starts', async () => {
  const right = { rounds: '1', seed: '1', modelSource: undefined, adaptersFolder: undefined };
  await assert.rejects(runSwapCommand({ ...right, rounds: '0' }), /--rounds to be a number from 1/);
  await assert.rejects(runSwapCommand({ ...right, seed: '1.5' }), /--seed to be a whole number/);
});
