/** Adapters as people published them, on models of their base's shape: read whole, reported rightly, and answering. */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { targetsOf } from '../../../src/runtime/lora/lora-targets.ts';
import { HEAD_PATH } from '../../../src/runtime/models/linear-module.ts';
import { loadRunner } from '../../../src/runtime/models/load-runner.ts';
import type { T5Config } from '../../../src/runtime/models/model-config.ts';
import { type LoadedAdapter, readAdapter } from '../../../src/runtime/peft/read-adapter.ts';
import { t5LinearModules } from '../../../src/runtime/t5/t5-modules.ts';
import { SafetensorsFile } from '../../../src/storage/safetensors.ts';
import { type Asked, EngineHarness } from '../../support/engine-harness.ts';
import { oracleTest } from '../../support/oracle.ts';
import { type PublishedShape, publishedConfig, writePublishedShape } from '../../support/published-shapes.ts';
import { refuses } from '../../support/refuses.ts';
import { parseT5Config } from '../../support/t5-config.ts';
import { type TinyAdapterOptions, writeTinyAdapter } from '../../support/tiny-adapter.ts';
import { temporaryFolder, tinyConfig, writeTinyModel } from '../../support/tiny-model.ts';

const SEED = 11;
const LIMITS = { maxRank: 64 };
const PROMPT = [8774, 10, 27, 43, 3, 9, 822, 5, 363, 19, 8, 682, 58, 1];
const NEW_TOKENS = 4;

interface Served {
  readonly modelFolder: string;
  readonly config: T5Config;
  readonly adapters: ReadonlyMap<string, LoadedAdapter>;
}

/** Sequences, log-probabilities and all, of requests that have the adapter of that key, or none. */
async function answers(
  { modelFolder, config, adapters }: Served,
  keys: readonly (string | undefined)[],
  promptTokenIds: readonly number[],
): Promise<readonly unknown[]> {
  const targets = targetsOf([...adapters.values()].map(({ weights }) => weights));
  const { runner } = await loadRunner({ modelFolder, config, threadCount: 2, targets }, () => {});
  try {
    for (const [key, { weights }] of adapters) runner.addAdapter(key, weights);
    const asked = keys.map(
      (key, index): Asked => ({
        id: `${index}`,
        promptTokenIds,
        options: { maxNewTokens: NEW_TOKENS, minNewTokens: NEW_TOKENS },
        adapters: key === undefined ? [] : [{ key, weight: 1 }],
      }),
    );
    const together = await EngineHarness.runAll(runner, asked);
    const results = asked.map(({ id }) => together.outputs.get(id)?.sequences);
    for (const [index, one] of asked.entries()) {
      const alone = await EngineHarness.runAll(runner, [one]);
      assert.deepEqual(alone.outputs.get(one.id)?.sequences, results[index], `alone as together: ${keys[index]}`);
    }
    return results;
  } finally {
    await runner.dispose();
  }
}

/** folder, base model, names of target_modules, modules that get factors, alpha / r */
const PUBLISHED = [
  ['flan-t5-dialogsum_pmelendez', 'flan-t5-base', ['q', 'v'], 72, 4],
  ['flan-t5-small-email-r8qkv_Rahul-8905', 'flan-t5-small', ['k', 'q', 'v'], 72, 2],
  ['t5-small-cnndm-r8_codebykarthick', 't5-small', ['v', 'q'], 36, 2],
] as const satisfies readonly (readonly [string, PublishedShape, readonly string[], number, number])[];

for (const [folder, base, targets, moduleCount, scale] of PUBLISHED) {
  const path = `adapters/${folder}`;
  oracleTest(`published: ${folder} loads whole on ${base}'s shape, and answers`, path, async (adapterFolder) => {
    const closing: (() => Promise<void>)[] = [];
    try {
      const keep = { after: (close: () => Promise<void>) => closing.push(close) };
      const modelFolder = await writePublishedShape(await temporaryFolder(keep as never), base, SEED);
      const config = parseT5Config(publishedConfig(base));
      const adapter = await readAdapter(adapterFolder, { modelFolder, config, modelSource: `dir:${base}` }, LIMITS);
      const { method, rank, targetModules, modules, report } = adapter.facts;
      assert.deepEqual([method, rank, targetModules], ['LORA', 8, targets]);
      const expected = t5LinearModules(config).filter(({ path: module }) =>
        targets.some((target) => module.endsWith(`.${target}`)),
      );
      assert.deepEqual(
        modules,
        expected.map(({ path: module }) => module),
      );
      assert.deepEqual([modules.length, report.matchedTensors.length], [moduleCount, moduleCount * 2]);
      assert.deepEqual([report.unmatchedTensors, report.zeroTensors, report.warnings], [[], [], []]);
      await assertScale(adapter, adapterFolder, scale);
      const adapters = new Map([['published', adapter]]);
      const [plain, adapted] = await answers({ modelFolder, config, adapters }, [undefined, 'published'], PROMPT);
      assert.notDeepEqual(adapted, plain);
      const [without] = await answers({ modelFolder, config, adapters: new Map() }, [undefined], PROMPT);
      assert.deepEqual(plain, without, 'as without any adapter');
    } finally {
      for (const close of closing) await close();
    }
  });
}

/** One number of B in memory is that of the file times alpha / r. */
async function assertScale({ weights }: LoadedAdapter, folder: string, scale: number): Promise<void> {
  const file = await SafetensorsFile.open(join(folder, 'adapter_model.safetensors'));
  try {
    const [first] = weights.factors;
    const b = await file.read(`base_model.model.${first?.module}.lora_B.weight`); // [out, 8]
    assert.equal(first?.b[3 * (first.b.length / 8) + 5], Math.fround(scale * (b[5 * 8 + 3] ?? 0)));
  } finally {
    await file.close();
  }
}

for (const [folder, , , ,] of PUBLISHED) {
  oracleTest(
    `published: ${folder} is refused on a model of other sizes`,
    `adapters/${folder}`,
    async (adapterFolder) => {
      const config = parseT5Config(tinyConfig());
      await assert.rejects(
        readAdapter(adapterFolder, { modelFolder: adapterFolder, config }, LIMITS),
        refuses('INCOMPATIBLE_ADAPTER', /expected \[8,16\], \[8, \d+\] came.*other sizes/),
      );
    },
  );
}

oracleTest(
  'published: an adapter of GPT-2 is refused by its targets',
  'adapters/distilgpt2-alpaca-r16_Shahid-Mo',
  async (adapterFolder) => {
    const config = parseT5Config(tinyConfig());
    await assert.rejects(
      readAdapter(adapterFolder, { modelFolder: adapterFolder, config }, LIMITS),
      refuses('INCOMPATIBLE_ADAPTER', /"attn\.c_attn", "attn\.c_proj"\] matches none/),
    );
  },
);

async function serveTiny(t: TestContext, options: TinyAdapterOptions): Promise<Served> {
  const model = await writeTinyModel(t);
  const { folder } = await writeTinyAdapter(model.parent, 'adapter', options);
  const config = parseT5Config(model.config);
  const adapter = await readAdapter(folder, { modelFolder: model.folder, config }, LIMITS);
  await rm(folder, { recursive: true });
  return { modelFolder: model.folder, config, adapters: new Map([['own', adapter]]) };
}

const TINY_PROMPT = [5, 17, 9, 30];

test('an adapter whose B are all zero is reported so, and answers as the model, bit for bit', async (t) => {
  const served = await serveTiny(t, { zeroB: true, targets: ['q', 'v', 'wi', HEAD_PATH] });
  const { report } = served.adapters.get('own')?.facts ?? {};
  const zeros = report?.matchedTensors.filter((name) => name.includes('lora_B'));
  assert.deepEqual([report?.zeroTensors, report?.unmatchedTensors, report?.warnings], [zeros, [], []]);
  assert.equal(zeros?.length, 12);
  const [plain, adapted] = await answers(served, [undefined, 'own'], TINY_PROMPT);
  assert.deepEqual(adapted, plain);
});

test('an adapter that names a module that the model does not have is reported so, and the others answer', async (t) => {
  const served = await serveTiny(t, { targets: ['q', 'v', 'c_attn'], spread: 1 });
  const { report, modules, targetModules } = served.adapters.get('own')?.facts ?? {};
  assert.deepEqual([modules?.length, targetModules], [8, ['q', 'v', 'c_attn']]);
  assert.deepEqual(report?.warnings, ['adapter_config.json: target_modules that the model does not have: "c_attn".']);
  assert.deepEqual([report?.matchedTensors.length, report?.unmatchedTensors, report?.zeroTensors], [16, [], []]);
  const [plain, adapted] = await answers(served, [undefined, 'own'], TINY_PROMPT);
  assert.notDeepEqual(adapted, plain);
});
