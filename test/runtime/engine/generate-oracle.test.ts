/** Every decoding case of the oracle, all cases of a model in one mixed batch: ids, scores and finish reasons are transformers'. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import type { DecodingOptions, EarlyStopping } from '../../../src/runtime/decoding/sampling-params.ts';
import { EngineHarness, loadRunner } from '../../support/engine-harness.ts';
import { oracleTest, readJsonFile, repositoryPath } from '../../support/oracle.ts';

interface GenerateCase {
  readonly name: string;
  readonly inputIds: readonly number[];
  readonly options: Omit<DecodingOptions, 'earlyStopping' | 'badWords'> & { readonly earlyStopping?: string };
  readonly badWordsIds?: readonly (readonly number[])[];
  readonly sequences: readonly (readonly number[])[];
  readonly finishReasons: readonly string[];
  readonly scores?: readonly number[];
  readonly logprobs?: readonly (readonly number[])[];
}

const EARLY_STOPPING: Readonly<Record<string, EarlyStopping>> = {
  HEURISTIC: 'heuristic',
  WHEN_BEAMS_FINISH: 'when-beams-finish',
  NEVER: 'never',
};

function optionsOf({ options }: GenerateCase): DecodingOptions {
  const { earlyStopping, ...rest } = options;
  const { badWords: _, ...others } = rest as DecodingOptions;
  return earlyStopping === undefined ? others : { ...others, earlyStopping: EARLY_STOPPING[earlyStopping] ?? null };
}

function assertNear(actual: number, expected: number, tolerance: number, what: string): void {
  assert.ok(Math.abs(actual - expected) <= tolerance, `${what}: expected ${expected}, got ${actual}`);
}

async function checkModel(parent: string, name: string, decodeLoop = false): Promise<void> {
  const cases = readJsonFile<readonly GenerateCase[]>(join(parent, name, 'expected/generate.json'));
  const { runner } = await loadRunner(parent, name, { decodeLoop });
  const asked = cases.map((one) => ({
    id: one.name,
    promptTokenIds: one.inputIds,
    options: optionsOf(one),
    badWordsIds: one.badWordsIds ?? [],
  }));
  const harness = await EngineHarness.runAll(runner, asked);
  for (const one of cases) {
    assert.deepEqual(harness.tokenIds(one.name), one.sequences, `${name} ${one.name}`);
    const sequences = harness.outputs.get(one.name)?.sequences ?? [];
    assert.deepEqual(
      sequences.map(({ finishReason }) => finishReason.toUpperCase()),
      one.finishReasons,
      `${name} ${one.name}`,
    );
    for (const [index, score] of (one.scores ?? []).entries()) {
      // the oracle's numbers have 7 digits
      assertNear(sequences[index]?.score ?? Number.NaN, score, 1e-4 + 1e-6 * Math.abs(score), `${one.name} score`);
    }
    for (const [index, logprob] of (one.logprobs?.[0] ?? []).entries()) {
      assertNear(sequences[0]?.tokens[index]?.logprob ?? Number.NaN, logprob, 1e-4, `${one.name} logprob ${index}`);
    }
  }
  await harness.dispose();
}

const MODELS = ['t5-relu-tied', 't5-gated-untied', 'gpt2', 'llama-gqa', 'llama-tied-rope3'];

for (const name of MODELS) {
  test(`${name}: one case of each kind, in one batch`, () => checkModel(repositoryPath('test/fixtures'), name));
  oracleTest(`${name}: every case of the oracle, in one batch`, `oracle/models/${name}`, (path) =>
    checkModel(dirname(path), name),
  );
}

for (const name of MODELS) {
  test(`${name}, decoding in a loop: one case of each kind, in one batch`, () =>
    checkModel(repositoryPath('test/fixtures'), name, true));
  oracleTest(`${name}, decoding in a loop: every case of the oracle, in one batch`, `oracle/models/${name}`, (path) =>
    checkModel(dirname(path), name, true),
  );
}

interface DialogueCase {
  readonly id: string;
  readonly inputIds: readonly number[];
  readonly greedy: { readonly ids: readonly number[] };
  readonly beams4: { readonly ids: readonly number[] };
  readonly beams4ngram3: { readonly ids: readonly number[] };
}

const DIALOGUE_OPTIONS = {
  greedy: { maxNewTokens: 60 },
  beams4: { maxNewTokens: 60, numBeams: 4 },
  beams4ngram3: { maxNewTokens: 60, numBeams: 4, noRepeatNgramSize: 3, lengthPenalty: 1.2 },
} as const;

for (const decodeLoop of [false, true]) {
  oracleTest(
    `gist-mini${decodeLoop ? ', decoding in a loop' : ''}: greedy and beams on real dialogues, in one batch`,
    'models/gist-mini/expected.jsonl',
    (path) => checkDialogues(path, decodeLoop),
  );
}

async function checkDialogues(path: string, decodeLoop: boolean): Promise<void> {
  const lines = readFileSync(path, 'utf8').trim().split('\n');
  const cases = lines.map((line) => JSON.parse(line) as DialogueCase);
  const { runner } = await loadRunner(repositoryPath('models'), 'gist-mini', { decodeLoop });
  const kinds = Object.keys(DIALOGUE_OPTIONS) as (keyof typeof DIALOGUE_OPTIONS)[];
  const asked = cases.flatMap(({ id, inputIds }) =>
    kinds.map((kind) => ({ id: `${id} ${kind}`, promptTokenIds: inputIds, options: DIALOGUE_OPTIONS[kind] })),
  );
  const harness = await EngineHarness.runAll(runner, asked);
  for (const one of cases) {
    for (const kind of kinds)
      assert.deepEqual(harness.tokenIds(`${one.id} ${kind}`), [one[kind].ids], `${one.id} ${kind}`);
  }
  await harness.dispose();
}
