import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { LoraFactors } from '../../../src/runtime/lora/lora-weights.ts';
import { parseConfig } from '../../../src/runtime/models/parse-config.ts';
import { type LoadedAdapter, readAdapter } from '../../../src/runtime/peft/read-adapter.ts';
import { WeightFiles } from '../../../src/storage/model-folder.ts';
import { SafetensorsFile } from '../../../src/storage/safetensors.ts';
import { oracleTest, readJsonFile, sharedPath } from '../../support/oracle.ts';
import { type TinyAdapterOptions, writeTinyAdapter } from '../../support/tiny-adapter.ts';
import { writeTinyModel } from '../../support/tiny-model.ts';

type Json = Readonly<Record<string, unknown>>;

interface Files {
  readonly modelFolder: string;
  readonly adapterFolder: string;
}

const PREFIX = 'base_model.model.';
const MAX_RANK = 64;

async function read({ modelFolder, adapterFolder }: Files, modelSource?: string): Promise<LoadedAdapter> {
  const config = parseConfig(readJsonFile<Json>(join(modelFolder, 'config.json')));
  const base = { modelFolder, config, ...(modelSource === undefined ? {} : { modelSource }) };
  return readAdapter(adapterFolder, base, { maxRank: MAX_RANK });
}

/** A tiny model and a tiny adapter for it. */
async function write(t: TestContext, options: TinyAdapterOptions = {}): Promise<Files> {
  const model = await writeTinyModel(t, options.model);
  const { folder } = await writeTinyAdapter(model.parent, 'adapter', options);
  return { modelFolder: model.folder, adapterFolder: folder };
}

async function readAll(path: string): Promise<ReadonlyMap<string, Float32Array>> {
  const file = await SafetensorsFile.open(path);
  const tensors = new Map<string, Float32Array>();
  for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
  await file.close();
  return tensors;
}

/** What x ↦ (1 + gainChange) ∘ (W x) + b (a x) has as its matrix: [out, in]. */
function adapted(weight: Float32Array, { rank, a, b, gainChange }: LoraFactors): Float64Array {
  const inSize = a.length / rank;
  const aOf = (factor: number, index: number): number => {
    const first = factor - (factor % 16);
    return a[first * inSize + index * Math.min(16, rank - first) + factor - first] as number;
  };
  const outSize = b.length / rank;
  return Float64Array.from(weight, (value, index) => {
    const out = Math.floor(index / inSize);
    let sum = value * (1 + (gainChange?.[out] ?? 0));
    for (let factor = 0; factor < rank; factor++) {
      sum += (b[factor * outSize + out] as number) * aOf(factor, index % inSize);
    }
    return sum;
  });
}

/** The formulas as the papers have them, from the file's own tensors. */
function merged(
  weight: Float32Array,
  tensors: ReadonlyMap<string, Float32Array>,
  path: string,
  scale: number,
): Float64Array {
  const a = tensors.get(`${PREFIX}${path}.lora_A.weight`) as Float32Array;
  const b = tensors.get(`${PREFIX}${path}.lora_B.weight`) as Float32Array;
  const magnitude = tensors.get(`${PREFIX}${path}.lora_magnitude_vector`);
  const rank = Math.round(Math.sqrt((a.length * b.length) / weight.length));
  const inSize = a.length / rank;
  const sum = Float64Array.from(weight, (value, index) => {
    const row = Math.floor(index / inSize);
    let total = value;
    for (let factor = 0; factor < rank; factor++) {
      total += scale * (b[row * rank + factor] as number) * (a[factor * inSize + (index % inSize)] as number);
    }
    return total;
  });
  if (magnitude === undefined) return sum;
  for (let row = 0; row < magnitude.length; row++) {
    const values = sum.subarray(row * inSize, (row + 1) * inSize);
    const length = Math.hypot(...values);
    values.set(values.map((value) => (value * (magnitude[row] as number)) / length));
  }
  return sum;
}

/** Every factor does to W what the plain formula does; returns how many were compared. */
async function assertFormula(files: Files, scaleOf: (rank: number, path: string) => number): Promise<number> {
  const { weights, facts } = await read(files);
  const tensors = await readAll(join(files.adapterFolder, 'adapter_model.safetensors'));
  const base = await WeightFiles.open(files.modelFolder);
  for (const factors of weights.factors) {
    const name = factors.module === 'lm_head' && !base.has('lm_head.weight') ? 'shared' : factors.module;
    const weight = await base.read(`${name}.weight`);
    const expected = merged(weight, tensors, factors.module, scaleOf(factors.rank, factors.module));
    const actual = adapted(weight, factors);
    const worst = expected.reduce(
      (most, value, index) => Math.max(most, Math.abs(value - (actual[index] as number))),
      0,
    );
    assert.ok(worst < 1e-5, `${factors.module}: ${worst}`);
    for (const array of [factors.a, factors.b, ...(factors.gainChange === undefined ? [] : [factors.gainChange])]) {
      assert.ok(array.buffer instanceof SharedArrayBuffer);
      assert.equal(array.buffer, weights.factors[0]?.a.buffer, 'one block of memory');
    }
  }
  await base.close();
  const values = [...tensors.values()].reduce((sum, { length }) => sum + length, 0);
  assert.deepEqual([facts.parameterCount, facts.memoryBytes], [values, values * 4]);
  assert.deepEqual([facts.report.matchedTensors.length, facts.report.unmatchedTensors], [tensors.size, []]);
  return weights.factors.length;
}

const plain = (rank: number): number => 8 / rank;

for (const [what, options, scaleOf, moduleCount] of [
  ['q and v', {}, plain, 8],
  ['every linear module, rank 3', { targets: 'all-linear', rank: 3 }, plain, 22],
  ['a gated model, float16', { targets: 'all-linear', model: { gated: true }, dtype: 'F16' }, plain, 25],
  ['the tied head', { targets: ['lm_head', 'o'] }, plain, 5],
  ['the tied head with DoRA', { targets: ['lm_head', 'o'], dora: true }, plain, 5],
  ['rsLoRA', { rslora: true, rank: 9 }, (rank: number) => 8 / Math.sqrt(rank), 8],
  ['DoRA', { dora: true, targets: 'all-linear', model: { gated: true } }, plain, 25],
  ['DoRA with rsLoRA, bfloat16', { dora: true, rslora: true, dtype: 'BF16' }, (rank: number) => 8 / Math.sqrt(rank), 8],
  ['ranks of their own', { ranks: { 'SelfAttention.q': 2, v: 7 } }, plain, 8],
  [
    'alphas of their own',
    { config: { alpha_pattern: { q: 3 } } },
    (rank: number, path: string) => (path.endsWith('q') ? 3 : 8) / rank,
    8,
  ],
] as const) {
  test(`factors give what the formula gives: ${what}`, async (t) => {
    assert.equal(await assertFormula(await write(t, options), scaleOf), moduleCount);
  });
}

/** Scales of the oracle's adapters, by their config files. */
function oracleScale({
  lora_alpha: alpha,
  use_rslora: rslora,
  alpha_pattern: pattern = {},
}: Json): (rank: number, path: string) => number {
  return (rank, path) => {
    const own = Object.entries(pattern as Record<string, number>).find(([key]) =>
      new RegExp(`(^|\\.)${key}$`).test(path),
    );
    return (own?.[1] ?? Number(alpha)) / (rslora ? Math.sqrt(rank) : rank);
  };
}

const ORACLE: Readonly<Record<string, readonly string[]>> = {
  't5-relu-tied': ['rslora-r8', 'lora-r4', 'dora-r4', 'lora-zero', 'lora-r3-all'],
  't5-gated-untied': ['rslora-r8', 'lora-pattern', 'lora-r4', 'dora-r4', 'lora-layers', 'lora-zero', 'lora-r3-all'],
};

for (const [model, names] of Object.entries(ORACLE)) {
  for (const name of names) {
    const path = `oracle/models/${model}/adapters/${name}`;
    oracleTest(`factors give what the formula gives: ${model} ${name}`, path, async (adapterFolder) => {
      const config = readJsonFile<Json>(join(adapterFolder, 'adapter_config.json'));
      const files = { modelFolder: sharedPath(`oracle/models/${model}`), adapterFolder };
      assert.ok((await assertFormula(files, oracleScale(config))) > 0);
      const { facts } = await read(files);
      const isZero = name === 'lora-zero';
      assert.equal(facts.report.zeroTensors.length, isZero ? facts.report.matchedTensors.length / 2 : 0);
      assert.equal(facts.method, name.startsWith('dora') ? 'DORA' : name.startsWith('rslora') ? 'RSLORA' : 'LORA');
    });
  }
}

oracleTest(
  'a head that is replaced comes whole',
  'oracle/models/t5-gated-untied/adapters/lora-head',
  async (adapterFolder) => {
    const { facts, weights } = await read({ modelFolder: sharedPath('oracle/models/t5-gated-untied'), adapterFolder });
    const tensors = await readAll(join(adapterFolder, 'adapter_model.safetensors'));
    assert.deepEqual([...(weights.head ?? [])], [...(tensors.get(`${PREFIX}lm_head.weight`) ?? [])]);
    assert.equal(facts.modules.at(-1), 'lm_head');
  },
);

for (const gated of [false, true]) {
  test(`a replaced head stands beside factors, in the same memory, head ${gated ? 'untied' : 'tied'}`, async (t) => {
    const files = await write(t, { head: true, model: { gated } });
    const { facts, weights } = await read(files);
    const tensors = await readAll(join(files.adapterFolder, 'adapter_model.safetensors'));
    assert.deepEqual([...(weights.head ?? [])], [...(tensors.get(`${PREFIX}lm_head.weight`) ?? [])]);
    assert.equal(weights.head?.buffer, weights.factors[0]?.a.buffer);
    assert.deepEqual([facts.modules.length, facts.modules.at(-1), weights.factors.length], [9, 'lm_head', 8]);
  });
}

test('facts are those of the files', async (t) => {
  const files = await write(t, { rank: 5, alpha: 7, targets: ['SelfAttention.q', 'wo'], dora: true });
  const { facts } = await read(files, 'dir:tiny');
  const bytes = await readFile(join(files.adapterFolder, 'adapter_model.safetensors'));
  assert.equal(facts.sha256, createHash('sha256').update(bytes).digest('hex'));
  assert.equal(facts.sizeBytes, bytes.length);
  assert.deepEqual(
    [facts.method, facts.rank, facts.alpha, facts.targetModules],
    ['DORA', 5, 7, ['SelfAttention.q', 'wo']],
  );
  assert.equal(facts.modules.length, 6);
  assert.deepEqual(facts.report.warnings, []);
  const { facts: byPattern } = await read(
    await write(t, { targets: '.*\\.q', modules: ['decoder.block.0.layer.1.EncDecAttention.q'] }),
  );
  assert.deepEqual(byPattern.targetModules, ['.*\\.q']);
  assert.deepEqual(byPattern.modules, ['decoder.block.0.layer.1.EncDecAttention.q']);
  assert.match(byPattern.report.warnings.join(), /have no factors stay as they are: encoder\.block\.0/);
});

test('all-zero B are listed', async (t) => {
  const { facts } = await read(await write(t, { zeroB: true, targets: ['v'] }));
  assert.deepEqual(
    facts.report.zeroTensors,
    facts.report.matchedTensors.filter((name) => name.includes('lora_B')),
  );
  assert.equal(facts.report.zeroTensors.length, 4);
});

for (const [served, came, warned] of [
  ['dir:flan-t5-small', 'google/flan-t5-small', false],
  ['embedded:Flan-T5-Small', '/home/me/models/flan-t5-small/', false],
  ['dir:flan-t5-small', 'google/flan-t5-base', true],
  ['hub:google/flan-t5-small@v1', 'google/flan-t5-small', false],
  ['hub:unsloth/x@v1#flan-t5-small.gguf', 'google/x', false],
  ['dir:flan-t5-small', null, false],
  [undefined, 'google/flan-t5-base', false],
] as const) {
  test(`an adapter of ${came} on ${served} is ${warned ? '' : 'not '}warned of`, async (t) => {
    const { facts } = await read(await write(t, { config: { base_model_name_or_path: came } }), served);
    assert.equal(facts.report.warnings.length, warned ? 1 : 0);
    if (warned)
      assert.match(facts.report.warnings[0] ?? '', /is "google\/flan-t5-base", the model served is "dir:flan/);
  });
}
