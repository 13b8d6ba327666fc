/** Adapters in a decode loop: each module of a model is changed as it is in runs of one step, and by a head too. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { targetsOf } from '../../../src/runtime/lora/lora-targets.ts';
import type { LoraWeights } from '../../../src/runtime/lora/lora-weights.ts';
import type { ModelConfig } from '../../../src/runtime/models/model-config.ts';
import { linearModules } from '../../../src/runtime/models/model-modules.ts';
import { encodeSafetensors } from '../../../src/storage/safetensors.ts';
import type { Cleanup } from '../../support/cleanup.ts';
import { loadRunner } from '../../support/engine-harness.ts';
import { forward, largestDifference } from '../../support/forced-tokens.ts';
import { randomAdapter } from '../../support/random-adapters.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';
import { tinyGpt2, tinyLlama, writeTinyDecoderOnly } from '../../support/tiny-decoder-only.ts';
import { writeTinyModel } from '../../support/tiny-model.ts';

const MODELS = {
  T5: (t: Cleanup) => writeTinyModel(t as never, { gated: true }),
  'GPT-2': (t: Cleanup) => writeTinyDecoderOnly(t, tinyGpt2),
  Llama: (t: Cleanup) => writeTinyDecoderOnly(t, tinyLlama),
} as const;

/** One for each kind of module, DoRA for every other; and one that brings a head of its own. */
function adaptersOf(config: ModelConfig): ReadonlyMap<string, LoraWeights> {
  const kinds = [...new Set(linearModules(config).map(({ path }) => path.split('.').slice(-2).join('.')))];
  const adapters = kinds.map((kind, index): [string, LoraWeights] => [
    kind,
    randomAdapter(config, { seed: index + 1, rank: 5, targets: [kind], dora: index % 2 === 1 }),
  ]);
  const next = seededNumbers(9);
  const head = Float32Array.from({ length: config.vocabularySize * config.hiddenSize }, () => next() - 0.5);
  return new Map([...adapters, ['head', { factors: [], head }]]);
}

for (const [model, place] of Object.entries(MODELS)) {
  test(`${model}: an adapter of each module changes logits in a loop as it does step by step`, async (t) => {
    const { parent, name } = await place(t);
    const plain = await loadRunner(parent, name);
    const { config } = plain.files;
    await plain.runner.dispose();
    const adapters = adaptersOf(config);
    const targets = targetsOf(adapters.values());
    const keys = [...adapters.keys()];
    assert.ok(
      keys.some((key) => key.endsWith('lm_head')),
      keys.join(' '),
    );
    const row = { inputIds: [3, 9, 20], decoderInputIds: [config.family === 't5' ? 0 : 20, 5, 9] };
    const rows = [row, ...keys.map((key) => ({ ...row, adapters: [{ key, weight: 0.75 }] }))];
    const [stepped = [], looped = []] = await Promise.all(
      [false, true].map(async (decodeLoop) => {
        const { runner } = await loadRunner(parent, name, { decodeLoop, targets });
        for (const [key, weights] of adapters) runner.addAdapter(key, weights);
        const logits = await forward(runner, rows);
        await runner.dispose();
        return logits;
      }),
    );
    const differ = (one: readonly Float32Array[] = [], other: readonly Float32Array[] = []): number =>
      Math.max(...one.map((logits, step) => largestDifference(other[step] ?? [], [...logits])));
    for (const [index, key] of ['none', ...keys].entries()) {
      assert.ok(differ(stepped[index], looped[index]) <= 1e-4, `${key}: ${differ(stepped[index], looped[index])}`);
      if (index > 0) assert.ok(differ(looped[0], looped[index]) > 1e-2, `${key} changes something`);
    }
  });
}

test('a head that counts alone is itself, though in float16 the own one gives infinities', async (t) => {
  const { parent, name, folder, tensors } = await writeTinyModel(t, { gated: true, config: { vocab_size: 60 } });
  const head = tensors.get('lm_head.weight');
  assert.ok(head !== undefined);
  // in the range of float16, which what it gives is not
  const data = head.data.map((value) => Math.max(-6e4, Math.min(6e4, value * 2e4)));
  const changed = new Map([...tensors, ['lm_head.weight', { ...head, data }] as const]);
  await writeFile(join(folder, 'model.safetensors'), encodeSafetensors(changed));
  const row = { inputIds: [3, 4, 5], decoderInputIds: [0, 5, 9] };
  for (const precision of ['fp32', 'fp16'] as const) {
    const { runner } = await loadRunner(parent, name, { decodeLoop: true, precision });
    runner.addAdapter('good', { factors: [], head: head.data.slice() });
    const [logits] = await forward(runner, [{ ...row, adapters: [{ key: 'good', weight: 1 }] }]);
    assert.equal(logits?.length, 3, precision);
    assert.ok(
      logits.every((step) => step.every(Number.isFinite)),
      precision,
    );
    await runner.dispose();
  }
});
