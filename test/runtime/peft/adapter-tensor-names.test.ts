/** Which tensors of a file are used, by their names, and which are left aside. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TensorToWrite } from '../../../src/storage/safetensors.ts';
import { DORA, HEAD, PREFIX, Q, readGood, renamed, tensors, writeGood, zeros } from '../../support/changed-adapter.ts';

for (const [what, change, options] of [
  ['that carry a name of the adapter', renamed(`${Q}.lora_A.weight`, `${Q}.lora_A.default.weight`), {}],
  [
    'of magnitudes as older PEFT wrote them',
    renamed(`${Q}.lora_magnitude_vector`, `${Q}.lora_magnitude_vector.weight`),
    DORA,
  ],
  ['of a saved head', renamed(`${PREFIX}lm_head.weight`, `${PREFIX}lm_head.modules_to_save.weight`), HEAD],
  [
    'of a saved head that carry a name of the adapter',
    renamed(`${PREFIX}lm_head.weight`, `${PREFIX}lm_head.modules_to_save.default.weight`),
    HEAD,
  ],
] as const) {
  test(`names ${what} mean the same`, async (t) => {
    const good = await writeGood(t, options);
    const { weights } = await readGood(good);
    await change(good);
    const again = await readGood(good);
    assert.deepEqual(again.weights, weights);
    assert.deepEqual(again.facts.report.unmatchedTensors, []);
  });
}

test('tensors that no target takes are listed, however long their names', async (t) => {
  const good = await writeGood(t, { targets: ['q'] });
  const names = [`${Q.slice(0, -1)}k.lora_A.weight`, 'transformer.h.0.attn.c_attn.lora_A.weight', 'x'.repeat(10_000)];
  await tensors((all) => {
    for (const name of names) all.set(name, zeros(4, 16));
  })(good);
  const { unmatchedTensors, matchedTensors } = (await readGood(good)).facts.report;
  assert.deepEqual(unmatchedTensors, [...names.slice(0, 2), `${'x'.repeat(300)}…`]);
  assert.equal(matchedTensors.length, 8);
});

for (const dtype of ['F32', 'F16', 'BF16'] as const) {
  test(`copies of the model's own embeddings are left aside, in ${dtype} too`, async (t) => {
    const good = await writeGood(t, { targets: ['q', 'lm_head'] });
    const shared = good.model.tensors.get('shared.weight') as TensorToWrite;
    const names = [`${PREFIX}shared.weight`, `${PREFIX}lm_head.base_layer.weight`];
    await tensors((all) => {
      for (const name of names) all.set(name, { ...shared, dtype });
    })(good);
    const { facts, weights } = await readGood(good);
    assert.deepEqual([facts.report.unmatchedTensors, weights.head], [names.toSorted(), undefined]);
    assert.match(facts.report.warnings.join(), /copies of the model's own weights were left aside: "base_model/);
  });
}
