/** Folders and files that are refused before a tensor is looked at, each a good one with one thing changed. */
import { execFileSync } from 'node:child_process';
import { mkdir, open, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  BAD,
  type Change,
  type Good,
  put,
  Q,
  tensors,
  testRefusals,
  WEIGHTS,
  zeros,
} from '../../support/changed-adapter.ts';

const CONFIG = 'adapter_config.json';

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

testRefusals([
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
]);
