/** Tensors that are refused: missing ones, ones of wrong shapes or numbers, ones that a model cannot apply. */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { RuntimeError } from '../../../src/runtime/errors.ts';
import { encodeSafetensors, type TensorToWrite } from '../../../src/storage/safetensors.ts';
import {
  BAD,
  DORA,
  HEAD,
  PREFIX,
  put,
  Q,
  readGood,
  tensors,
  testRefusals,
  UNFIT,
  value,
  WEIGHTS,
  without,
  writeGood,
  zeros,
} from '../../support/changed-adapter.ts';
import { refuses } from '../../support/refuses.ts';

testRefusals([
  [
    'an A that is missing',
    without(`${Q}.lora_A.weight`),
    BAD,
    /q\.lora_A\.weight" beside the others of encoder.*is missing/,
  ],
  [
    'a B that is missing',
    without(`${Q}.lora_B.weight`),
    BAD,
    /q\.lora_B\.weight" beside the others of encoder.*is missing/,
  ],
  ['a magnitude that is missing', without(`${Q}.lora_magnitude_vector`), BAD, /q\.lora_magnitude_vector" beside/, DORA],
  ['an A of two names', put(`${Q}.lora_A.default.weight`, zeros(4, 16)), BAD, /one of .*lora_A.* and .*both came/],
  [
    'factors of no target',
    ({ folder }) => writeFile(join(folder, WEIGHTS), encodeSafetensors(new Map([['x', zeros(1)]]))),
    BAD,
    /factors such as "base_model.*lora_A\.weight", "x" came/,
  ],
  [
    'no tensor at all',
    ({ folder }) => writeFile(join(folder, WEIGHTS), encodeSafetensors(new Map())),
    BAD,
    /no tensor came/,
  ],
  [
    'a rank other than in the config',
    put(`${Q}.lora_A.weight`, zeros(5, 16)),
    BAD,
    /expected \[4,16\], \[5, 16\] came\. Its rank must be/,
  ],
  ['a B of another rank', put(`${Q}.lora_B.weight`, zeros(12, 3)), BAD, /expected \[12,4\], \[12, 3\] came/],
  ['an A with three axes', put(`${Q}.lora_A.weight`, zeros(4, 16, 1)), BAD, /expected \[4,16\], \[4, 16, 1\] came/],
  [
    'an A of a wider model',
    put(`${Q}.lora_A.weight`, zeros(4, 32)),
    UNFIT,
    /expected \[4,16\], \[4, 32\] came.*other sizes/,
  ],
  ['a B of a wider model', put(`${Q}.lora_B.weight`, zeros(24, 4)), UNFIT, /expected \[12,4\], \[24, 4\] came/],
  [
    'A and B exchanged',
    tensors((all) => {
      const a = all.get(`${Q}.lora_A.weight`) as TensorToWrite;
      all.set(`${Q}.lora_A.weight`, all.get(`${Q}.lora_B.weight`) as TensorToWrite).set(`${Q}.lora_B.weight`, a);
    }),
    UNFIT,
    /expected \[4,16\], \[12, 4\] came/,
  ],
  [
    'a magnitude that is too long',
    put(`${Q}.lora_magnitude_vector`, zeros(13)),
    UNFIT,
    /expected \[12\], \[13\] came/,
    DORA,
  ],
  ['NaN in A', value(`${Q}.lora_A.weight`, 5, Number.NaN), BAD, /finite values, NaN stands at 5/],
  [
    'infinity in B',
    value(`${Q}.lora_B.weight`, 0, Number.NEGATIVE_INFINITY),
    BAD,
    /finite values, -Infinity stands at 0/,
  ],
  ['NaN in a magnitude', value(`${Q}.lora_magnitude_vector`, 3, Number.NaN), BAD, /NaN stands at 3/, DORA],
  [
    'a B that its scale makes infinite',
    value(`${Q}.lora_B.weight`, 0, 3e38),
    BAD,
    /finite numbers as .*lora_B.* times 2, .*Infinity came/,
  ],
  ['no head', without(`${PREFIX}lm_head.weight`), BAD, /lm_head\.weight" beside the others of modules_to_save/, HEAD],
  [
    'two heads',
    put(`${PREFIX}lm_head.modules_to_save.weight`, zeros(60, 16)),
    BAD,
    /one of .*lm_head.*both came/,
    HEAD,
  ],
  [
    'a head of another vocabulary',
    put(`${PREFIX}lm_head.weight`, zeros(61, 16)),
    UNFIT,
    /expected \[60,16\], \[61, 16\] came/,
    HEAD,
  ],
  ['NaN in the head', value(`${PREFIX}lm_head.weight`, 9, Number.NaN), BAD, /NaN stands at 9/, HEAD],
  [
    'embeddings of its own',
    put(`${PREFIX}shared.weight`, zeros(60, 16)),
    UNFIT,
    /other values: it would replace shared\.weight/,
  ],
  [
    'embeddings of another size',
    put(`${PREFIX}encoder.embed_tokens.weight`, zeros(61, 16)),
    UNFIT,
    /it would replace shared\.weight/,
  ],
  [
    'a head below a head that is adapted',
    put(`${PREFIX}lm_head.base_layer.weight`, zeros(60, 16)),
    UNFIT,
    /replace lm_head\.weight/,
    { targets: ['q', 'lm_head'] },
  ],
  ['a matrix of the base', put(`${Q}.base_layer.weight`, zeros(12, 16)), UNFIT, /replace encoder.*q\.weight/],
]);

test('a rank above the limit is refused by the name of its setting, before any value is read', async (t) => {
  const good = await writeGood(t, { rank: 9, config: { r: 9 } });
  await assert.rejects(readGood(good, 8), (error) => {
    refuses('INCOMPATIBLE_ADAPTER', /a rank of at most 8 \(GISTQL_MAX_ADAPTER_RANK\), 9 came for encoder/)(error);
    assert.ok(error instanceof RuntimeError);
    assert.equal(error.details.limit, 'GISTQL_MAX_ADAPTER_RANK');
    return true;
  });
  assert.equal((await readGood(good, 9)).facts.rank, 9);
});

test('rows that DoRA cannot scale are refused', async (t) => {
  const options = { dora: true, zeroB: true, targets: ['wi'], modules: ['encoder.block.0.layer.1.DenseReluDense.wi'] };
  const good = await writeGood(t, options);
  const weight = good.model.tensors.get('encoder.block.0.layer.1.DenseReluDense.wi.weight');
  weight?.data.fill(0, 0, 16);
  await writeFile(join(good.model.folder, 'model.safetensors'), encodeSafetensors(good.model.tensors));
  await assert.rejects(
    readGood(good),
    refuses('INVALID_ADAPTER', /finite numbers as .*magnitude.* over the lengths.*Infinity/),
  );
});

test('a base whose weights are gone is INVALID_MODEL, no fault of the adapter', async (t) => {
  const good = await writeGood(t, { dora: true });
  await rm(join(good.model.folder, 'model.safetensors'));
  await assert.rejects(readGood(good), refuses('INVALID_MODEL', /model\.safetensors/));
});
