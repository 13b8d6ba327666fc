/** What adapters and blends of them answer is PEFT's: logits within 1e-4, ids equal, alone and all in one batch. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { DecodingOptions } from '../../../src/runtime/decoding/sampling-params.ts';
import type { FinishReason } from '../../../src/runtime/decoding/stopping-criteria.ts';
import type { ModelRunner } from '../../../src/runtime/engine/model-runner.ts';
import { targetsOf } from '../../../src/runtime/lora/lora-targets.ts';
import type { WeightedAdapter } from '../../../src/runtime/lora/lora-weights.ts';
import { readModelFiles } from '../../../src/runtime/models/model-files.ts';
import { type LoadedAdapter, readAdapter } from '../../../src/runtime/peft/read-adapter.ts';
import { type Asked, EngineHarness, loadRunner } from '../../support/engine-harness.ts';
import { type ForcedRow, forward, largestDifference } from '../../support/forced-tokens.ts';
import { oracleTest, readJsonFile, sharedPath } from '../../support/oracle.ts';

interface GenerateCase {
  readonly inputIds: readonly number[];
  readonly options: DecodingOptions;
  readonly sequences: readonly (readonly number[])[];
  readonly finishReasons: readonly Uppercase<FinishReason>[];
  readonly scores?: readonly number[];
  readonly logprobs?: readonly (readonly number[])[];
}

interface ExpectedLogits {
  readonly inputIds: readonly number[];
  /** Encoder-decoder only. */
  readonly decoderInputIds?: readonly number[];
  /** [decoder tokens][vocabulary] */
  readonly logits: readonly (readonly number[])[];
}

interface Expected {
  readonly adapters: Readonly<
    Record<string, { readonly logits: ExpectedLogits; readonly generate: readonly GenerateCase[] }>
  >;
  readonly blends: readonly {
    readonly adapters: readonly { readonly id: string; readonly weight: number }[];
    readonly generate: readonly GenerateCase[];
  }[];
}

interface AdapterCase extends GenerateCase {
  readonly id: string;
  readonly adapters: readonly WeightedAdapter[];
}

const MODELS = sharedPath('oracle/models');
const MODEL_NAMES = ['t5-relu-tied', 't5-gated-untied', 'gpt2', 'llama-gqa', 'llama-tied-rope3'];
interface OracleModel {
  readonly what: string;
  readonly model: string;
  readonly decodeLoop: boolean;
}

const ORACLE_MODELS: readonly OracleModel[] = [
  ...MODEL_NAMES.map((model) => ({ what: model, model, decodeLoop: false })),
  ...MODEL_NAMES.map((model) => ({ what: `${model}, decoding in a loop`, model, decodeLoop: true })),
];
const LOGIT_TOLERANCE = 1e-4;
/**
 * One case is ill-conditioned: PyTorch's own logits move by up to 1e-3 when the weights of t5-gated-untied with
 * lora-r3-all are changed in their last bit, and the expected ones are 7e-4 from what float64 gives.
 */
const ILL_CONDITIONED = { id: 't5-gated-untied lora-r3-all', tolerance: 2e-3 };
/** The expected scores were computed in float32 too: over 16 tokens they are up to 2.5e-4 from what float64 gives. */
const SCORE_TOLERANCE = 1e-3;

async function loadAdapters(model: string): Promise<ReadonlyMap<string, LoadedAdapter>> {
  const { folder, config } = await readModelFiles(`dir:${model}`, { embedded: MODELS, models: MODELS });
  const names = readdirSync(join(folder, 'adapters'), { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const loaded = new Map<string, LoadedAdapter>();
  for (const { name } of names) {
    const base = { modelFolder: folder, config };
    loaded.set(name, await readAdapter(join(folder, 'adapters', name), base, { maxRank: 256 }));
  }
  return loaded;
}

async function runnerWith(
  { model, decodeLoop }: OracleModel,
  adapters: ReadonlyMap<string, LoadedAdapter>,
): Promise<ModelRunner> {
  const weights = new Map([...adapters].map(([name, loaded]) => [name, loaded.weights]));
  const { runner } = await loadRunner(MODELS, model, { decodeLoop, targets: targetsOf(weights.values()) });
  for (const [name, loaded] of weights) runner.addAdapter(name, loaded);
  return runner;
}

/** A decoder-only model says its logits of a prompt's tokens when it is given them one by one. */
function forcedRow({ inputIds, decoderInputIds }: ExpectedLogits): ForcedRow {
  return decoderInputIds === undefined
    ? { inputIds: inputIds.slice(0, 1), decoderInputIds: inputIds }
    : { inputIds, decoderInputIds };
}

function casesOf({ adapters, blends }: Expected): readonly AdapterCase[] {
  const single = Object.entries(adapters).flatMap(([id, { generate }]) =>
    generate.map((one, index) => ({ ...one, id: `${id} ${index}`, adapters: [{ key: id, weight: 1 }] })),
  );
  const blended = blends.flatMap(({ adapters: parts, generate }, blend) =>
    generate.map((one, index) => ({
      ...one,
      id: `blend ${blend} ${index}`,
      adapters: parts.map(({ id, weight }) => ({ key: id, weight })),
    })),
  );
  return [...single, ...blended];
}

function toAsked({ id, inputIds, options, adapters }: AdapterCase): Asked {
  return { id, promptTokenIds: inputIds, options, adapters };
}

function check(harness: EngineHarness, expected: AdapterCase): void {
  const { sequences = [] } = harness.outputs.get(expected.id) ?? {};
  assert.deepEqual(
    sequences.map(({ tokens }) => tokens.map(({ id }) => id)),
    expected.sequences,
    expected.id,
  );
  for (const [index, sequence] of sequences.entries()) {
    assert.equal(sequence.finishReason.toUpperCase(), expected.finishReasons[index], expected.id);
    const score = expected.scores?.[index];
    if (score !== undefined) assert.ok(Math.abs(sequence.score - score) <= SCORE_TOLERANCE, expected.id);
    for (const [step, logprob] of (expected.logprobs?.[index] ?? []).entries()) {
      assert.ok(
        Math.abs((sequence.tokens[step]?.logprob as number) - logprob) <= SCORE_TOLERANCE,
        `${expected.id} ${step}`,
      );
    }
  }
}

for (const one of ORACLE_MODELS) {
  const { model, what } = one;
  oracleTest(
    `${what}: every adapter and every blend, all in one batch and each alone`,
    `oracle/models/${model}/adapters/expected.json`,
    async (path) => {
      const cases = casesOf(readJsonFile<Expected>(path));
      const runner = await runnerWith(one, await loadAdapters(model));
      const together = await EngineHarness.runAll(runner, cases.map(toAsked));
      for (const expected of cases) {
        const { id } = expected;
        check(together, expected);
        const alone = await EngineHarness.runAll(runner, [toAsked(expected)]);
        assert.deepEqual(alone.outputs.get(id)?.sequences, together.outputs.get(id)?.sequences, id);
      }
      await runner.dispose();
    },
  );
}

for (const one of ORACLE_MODELS) {
  const { model, what } = one;
  oracleTest(
    `${what}: the logits of every adapter, all in one batch`,
    `oracle/models/${model}/adapters/expected.json`,
    async (path) => {
      const expected = Object.entries(readJsonFile<Expected>(path).adapters);
      const runner = await runnerWith(one, await loadAdapters(model));
      const rows = expected.map(([id, { logits }]) => ({
        ...forcedRow(logits),
        adapters: [{ key: id, weight: 1 }],
      }));
      const actual = await forward(runner, rows);
      for (const [index, [id, { logits }]] of expected.entries()) {
        for (const [step, row] of logits.logits.entries()) {
          const difference = largestDifference(actual[index]?.[step] ?? [], row);
          const tolerance = `${model} ${id}` === ILL_CONDITIONED.id ? ILL_CONDITIONED.tolerance : LOGIT_TOLERANCE;
          assert.ok(difference <= tolerance, `${id}, token ${step}: ${difference}`);
        }
      }
      await runner.dispose();
    },
  );
}
