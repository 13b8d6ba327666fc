/** Folders that are refused, each a good one with one thing changed; nothing of them stays open or loaded. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, open, readdir, readFile, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type ErrorCode, RuntimeError } from '../../../src/runtime/errors.ts';
import { parseT5Config } from '../../../src/runtime/models/parse-config.ts';
import { type LoadedAdapter, readAdapter } from '../../../src/runtime/peft/read-adapter.ts';
import { encodeSafetensors, type TensorToWrite } from '../../../src/storage/safetensors.ts';
import { refuses } from '../../support/refuses.ts';
import { type TinyAdapterOptions, writeTinyAdapter } from '../../support/tiny-adapter.ts';
import { type TinyModel, writeTinyModel } from '../../support/tiny-model.ts';

const CONFIG = 'adapter_config.json';
const WEIGHTS = 'adapter_model.safetensors';
const PREFIX = 'base_model.model.';
const Q = `${PREFIX}encoder.block.0.layer.0.SelfAttention.q`;

interface Good {
  readonly folder: string;
  readonly model: TinyModel;
  readonly tensors: Map<string, TensorToWrite>;
}

type Change = (good: Good) => unknown;

async function writeGood(t: TestContext, options: TinyAdapterOptions = {}): Promise<Good> {
  const model = await writeTinyModel(t, options.model);
  const { folder, tensors } = await writeTinyAdapter(model.parent, 'adapter', options);
  return { folder, model, tensors: new Map(tensors) };
}

async function read({ folder, model }: Good, maxRank = 64): Promise<LoadedAdapter> {
  return readAdapter(folder, { modelFolder: model.folder, config: parseT5Config(model.config) }, { maxRank });
}

/** Changes the tensors, then writes them. */
function tensors(change: (tensors: Map<string, TensorToWrite>, good: Good) => void): Change {
  return async (good) => {
    change(good.tensors, good);
    await writeFile(join(good.folder, WEIGHTS), encodeSafetensors(good.tensors));
  };
}

function zeros(...shape: readonly number[]): TensorToWrite {
  return { shape, data: new Float32Array(shape.reduce((product, size) => product * size, 1)).fill(0.5) };
}

function renamed(from: string, to: string): Change {
  return tensors((all) => {
    all.set(to, all.get(from) as TensorToWrite);
    all.delete(from);
  });
}

const put = (name: string, tensor: TensorToWrite): Change => tensors((all) => all.set(name, tensor));
const without = (name: string): Change => tensors((all) => all.delete(name));

function value(name: string, index: number, written: number): Change {
  return tensors((all) => {
    const tensor = all.get(name) as TensorToWrite;
    const data = tensor.data.slice();
    data[index] = written;
    all.set(name, { ...tensor, data });
  });
}

const configText =
  (text: string | Uint8Array): Change =>
  ({ folder }) =>
    writeFile(join(folder, CONFIG), text);

/** Rewrites the header's JSON text. */
function header(change: (json: string) => string): Change {
  return async ({ folder }) => {
    const bytes = await readFile(join(folder, WEIGHTS));
    const end = 8 + Number(bytes.readBigUInt64LE(0));
    const text = Buffer.from(change(bytes.toString('utf8', 8, end)));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    await writeFile(join(folder, WEIGHTS), Buffer.concat([length, text, bytes.subarray(end)]));
  };
}

async function outside({ folder, model }: Good, file: string): Promise<void> {
  await rename(join(folder, file), join(model.parent, file));
  await symlink(join(model.parent, file), join(folder, file));
}

async function replaced({ folder }: Good, file: string, make: (path: string) => unknown): Promise<void> {
  await rm(join(folder, file));
  await make(join(folder, file));
}

async function pickle({ folder }: Good): Promise<void> {
  await rm(join(folder, WEIGHTS));
  await writeFile(join(folder, 'adapter_model.bin'), '\x80\x02}q\x00.');
}

/** A file that is long and costs no disk. */
async function sparse(path: string, size: number): Promise<void> {
  const handle = await open(path, 'w');
  await handle.truncate(size);
  await handle.close();
}

const DORA: TinyAdapterOptions = { dora: true };
const HEAD: TinyAdapterOptions = { head: true };
const BAD = 'INVALID_ADAPTER';
const UNFIT = 'INCOMPATIBLE_ADAPTER';

const CASES: readonly (readonly [string, Change, ErrorCode, RegExp, TinyAdapterOptions?])[] = [
  ['no config', ({ folder }) => rm(join(folder, CONFIG)), BAD, /a file adapter_config\.json, there is none/],
  ['no weights', ({ folder }) => rm(join(folder, WEIGHTS)), BAD, /a file adapter_model\.safetensors, there is none/],
  ['no folder', ({ folder }) => rm(folder, { recursive: true }), BAD, /adapter_config\.json, there is none/],
  ['a pickle', pickle, BAD, /the pickle "adapter_model\.bin" came.*Convert it to safetensors/],
  ['a config that links out', (good) => outside(good, CONFIG), BAD, /"adapter_config\.json".*leads out of it/],
  ['weights that link out', (good) => outside(good, WEIGHTS), BAD, /"adapter_model\.safetensors".*leads out of it/],
  ['a folder as weights', (good) => replaced(good, WEIGHTS, (path) => mkdir(path)), BAD, /regular file/],
  ['a pipe as config', (good) => replaced(good, CONFIG, (path) => execFileSync('mkfifo', [path])), BAD, /regular file/],
  [
    'a config of 2 MiB',
    (good) => replaced(good, CONFIG, (path) => sparse(path, 2 ** 21)),
    BAD,
    /at most \d+ bytes, it has/,
  ],
  ['a config that is no JSON', configText('{"r": 4,'), BAD, /expected JSON/],
  ['a config that is a list', configText('[1]'), BAD, /a JSON object, \[1\] came/],
  ['a config that is not UTF-8', configText(Uint8Array.of(0x7b, 0xff, 0x7d)), BAD, /expected UTF-8/],
  [
    'a config of a million brackets',
    configText(`{"peft_type":${'['.repeat(5e5)}${']'.repeat(5e5)}}`),
    BAD,
    /peft_type/,
  ],
  ['a key that comes twice', configText('{"peft_type":"LORA","r":4,"r":8}'), BAD, /each key once, one comes twice/],
  [
    'a key within that comes twice',
    configText('{"peft_type":"LORA","rank_pattern":{"q":1,"q":2}}'),
    BAD,
    /comes twice/,
  ],
  ['weights of 3 bytes', ({ folder }) => writeFile(join(folder, WEIGHTS), 'cut'), BAD, /it has only 3 bytes/],
  [
    'weights that are a zip',
    ({ folder }) => writeFile(join(folder, WEIGHTS), 'PK\x03\x04'.repeat(99)),
    BAD,
    /it claims \d+/,
  ],
  [
    'a sparse terabyte',
    ({ folder }) => sparse(join(folder, WEIGHTS), 2 ** 40),
    BAD,
    /expected a header that begins with \{/,
  ],
  [
    'a header that claims gigabytes',
    async ({ folder }) => {
      await sparse(join(folder, WEIGHTS), 2 ** 34);
      const handle = await open(join(folder, WEIGHTS), 'r+');
      const claim = Buffer.alloc(8);
      claim.writeBigUInt64LE(2n ** 33n);
      await handle.write(claim, 0, 8, 0);
      await handle.close();
    },
    BAD,
    /a header of at most 8000000 bytes, it claims 8589934592/,
  ],
  [
    'truncated weights',
    async ({ folder }) => {
      const bytes = await readFile(join(folder, WEIGHTS));
      await writeFile(join(folder, WEIGHTS), bytes.subarray(0, bytes.length - 4));
    },
    BAD,
    /expected data_offsets within/,
  ],
  [
    'a tensor name that comes twice',
    header((json) => json.replaceAll('EncDecAttention.v', 'EncDecAttention.q')),
    BAD,
    /each name once/,
  ],
  ['a shape that lies', header((json) => json.replace('[4,16]', '[400000,16]')), BAD, /bytes for shape/],
  [
    'float64',
    async (good) => {
      await put(`${Q}.lora_A.weight`, zeros(8, 16))(good);
      await header((json) => json.replace('"F32","shape":[8,16]', '"F64","shape":[4,16]'))(good);
    },
    BAD,
    /float32, float16 or bfloat16, F64 came/,
  ],
  ['integers', header((json) => json.replace('"F32"', '"I32"')), BAD, /float32, float16 or bfloat16, I32 came/],
  [
    '20,001 tensors',
    tensors((all) => {
      for (let index = all.size; index <= 20_000; index++) all.set(`x${index}`, zeros(0));
    }),
    BAD,
    /at most 20000 tensors, 20001 came/,
  ],
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
];

/** Where the files lead that this process holds open; nothing where the system does not say. */
async function openFiles(): Promise<readonly string[]> {
  const descriptors = await readdir('/proc/self/fd').catch(() => []);
  const paths = await Promise.all(descriptors.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')));
  return paths.filter((path) => path.includes('.safetensors') || path.endsWith('.json')).sort();
}

for (const [what, change, code, message, options] of CASES) {
  test(`refused: ${what}`, async (t) => {
    const good = await writeGood(t, options);
    await read(good);
    await change(good);
    const before = await openFiles();
    await assert.rejects(read(good), refuses(code, message));
    assert.deepEqual(await openFiles(), before, 'a refused file stays open');
  });
}

test('a rank above the limit is refused by the name of its setting, before any value is read', async (t) => {
  const good = await writeGood(t, { rank: 9, config: { r: 9 } });
  await assert.rejects(read(good, 8), (error) => {
    refuses('INCOMPATIBLE_ADAPTER', /a rank of at most 8 \(GISTQL_MAX_ADAPTER_RANK\), 9 came for encoder/)(error);
    assert.ok(error instanceof RuntimeError);
    assert.equal(error.details.limit, 'GISTQL_MAX_ADAPTER_RANK');
    return true;
  });
  assert.equal((await read(good, 9)).facts.rank, 9);
});

test('rows that DoRA cannot scale are refused', async (t) => {
  const options = { dora: true, zeroB: true, targets: ['wi'], modules: ['encoder.block.0.layer.1.DenseReluDense.wi'] };
  const good = await writeGood(t, options);
  const weight = good.model.tensors.get('encoder.block.0.layer.1.DenseReluDense.wi.weight');
  weight?.data.fill(0, 0, 16);
  await writeFile(join(good.model.folder, 'model.safetensors'), encodeSafetensors(good.model.tensors));
  await assert.rejects(
    read(good),
    refuses('INVALID_ADAPTER', /finite numbers as .*magnitude.* over the lengths.*Infinity/),
  );
});

test('a base whose weights are gone is INVALID_MODEL, no fault of the adapter', async (t) => {
  const good = await writeGood(t, { dora: true });
  await rm(join(good.model.folder, 'model.safetensors'));
  await assert.rejects(read(good), refuses('INVALID_MODEL', /model\.safetensors/));
});

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
    const { weights } = await read(good);
    await change(good);
    const again = await read(good);
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
  const { unmatchedTensors, matchedTensors } = (await read(good)).facts.report;
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
    const { facts, weights } = await read(good);
    assert.deepEqual([facts.report.unmatchedTensors, weights.head], [names.toSorted(), undefined]);
    assert.match(facts.report.warnings.join(), /copies of the model's own weights were left aside: "base_model/);
  });
}
