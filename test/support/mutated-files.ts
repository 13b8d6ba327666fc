/** Good adapter folders with something changed: bits, bytes, keys, names, shapes, numbers, as a seed says. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TinyAdapterOptions } from './tiny-adapter.ts';

const LENGTH_BYTES = 8;

/** A good folder of every kind, for the tiny model. */
export const GOOD_KINDS: Readonly<Record<string, TinyAdapterOptions>> = {
  lists: { targets: ['q', 'wo', 'lm_head'], ranks: { wo: 2 }, config: { alpha_pattern: { '.*layer.0.*q': 3 } } },
  dora: {
    dora: true,
    rslora: true,
    targets: '.*decoder.*\\.(q|v)',
    modules: ['decoder.block.0.layer.0.SelfAttention.q'],
  },
  head: { head: true, dtype: 'F16', config: { layers_to_transform: [0], exclude_modules: ['k'] } },
  linear: { targets: 'all-linear', rank: 1, dtype: 'BF16', config: { use_rslora: true } },
};

/** Numbers in [0, 1). */
type Next = () => number;

/** The two files of a folder. */
export interface AdapterFiles {
  readonly config: Uint8Array;
  readonly weights: Uint8Array;
}

const whole = (next: Next, below: number): number => Math.floor(next() * below);
const pick = <T>(next: Next, options: readonly T[]): T => options[whole(next, options.length)] as T;

function flip(bytes: Uint8Array, next: Next, from = 0, to = bytes.length): Uint8Array {
  const changed = bytes.slice();
  for (let count = 1 + whole(next, 3); count > 0; count--) {
    const index = from + whole(next, to - from);
    changed[index] = (changed[index] as number) ^ (1 << whole(next, 8));
  }
  return changed;
}

function cut(bytes: Uint8Array, next: Next): Uint8Array {
  const from = whole(next, bytes.length);
  return next() < 0.5
    ? bytes.slice(0, from)
    : Buffer.concat([bytes.slice(0, from), bytes.slice(from + 1 + whole(next, 9))]);
}

function insert(bytes: Uint8Array, next: Next): Uint8Array {
  const at = whole(next, bytes.length + 1);
  const added = Uint8Array.from({ length: 1 + whole(next, 8) }, () => whole(next, 256));
  return Buffer.concat([bytes.slice(0, at), added, bytes.slice(at)]);
}

const VALUES: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  1,
  3,
  16,
  17,
  1.5,
  1e308,
  2 ** 53,
  '',
  'q',
  'LORA',
  'lm_head',
  'all-linear',
  '.*',
  '(a*)*b',
  '((((((.*)*)*)*)*)*)*x',
  '(?<=q)',
  '[',
  '\\',
  'none',
  [],
  ['q'],
  ['lm_head'],
  [null],
  [[0, 1]],
  [0, 1],
  {},
  { q: 2 },
  { '(.*)*q': 3 },
  { x: { y: [1] } },
  'x'.repeat(5000),
  Array.from({ length: 2000 }, (_, index) => `m${index}`),
];
const KEYS = [
  'peft_type',
  'r',
  'lora_alpha',
  'target_modules',
  'exclude_modules',
  'rank_pattern',
  'alpha_pattern',
  'bias',
  'layers_to_transform',
  'layers_pattern',
  'use_dora',
  'use_rslora',
  'modules_to_save',
  'fan_in_fan_out',
  'lora_bias',
  'init_lora_weights',
  'megatron_config',
  'base_model_name_or_path',
  'lora_dropout',
  'novel_key',
  '__proto__',
  'constructor',
];

/** Sets, renames or drops keys of a JSON object; defined, not assigned: `__proto__` is a key like others in a file. */
function changeJson(
  json: Record<string, unknown>,
  keys: readonly string[],
  values: readonly unknown[],
  next: Next,
): void {
  for (let count = 1 + whole(next, 3); count > 0; count--) {
    const key = pick(next, keys);
    if (next() < 0.15) delete json[key];
    else
      Object.defineProperty(json, key, {
        value: pick(next, values),
        enumerable: true,
        configurable: true,
        writable: true,
      });
  }
}

function changeConfig({ config }: AdapterFiles, next: Next): Uint8Array {
  const json = JSON.parse(Buffer.from(config).toString()) as Record<string, unknown>;
  changeJson(json, KEYS, VALUES, next);
  return Buffer.from(JSON.stringify(json));
}

function headerEnd(weights: Uint8Array): number {
  return LENGTH_BYTES + Number(Buffer.from(weights).readBigUInt64LE(0));
}

/** Writes the header again after `change` had it. */
function changeHeader(
  { weights }: AdapterFiles,
  change: (header: Record<string, Record<string, unknown>>) => void,
): Uint8Array {
  const end = headerEnd(weights);
  const header = JSON.parse(Buffer.from(weights).toString('utf8', LENGTH_BYTES, end)) as Record<
    string,
    Record<string, unknown>
  >;
  change(header);
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, weights.slice(end)]);
}

const FIELD_VALUES: readonly unknown[] = [
  'F32',
  'F16',
  'BF16',
  'F64',
  'I8',
  'X',
  null,
  [4, 16],
  [16, 4],
  [64],
  [2, 32],
  [4, 4, 4],
  [],
  [0, 64],
  [-4, -16],
  [2 ** 40, 2 ** 40],
  [1.5],
  ['4'],
  [0, 256],
  [256, 0],
  [256, 512],
  [0, 2 ** 60],
  {},
  'x',
];

function changeField(copy: AdapterFiles, next: Next): Uint8Array {
  return changeHeader(copy, (header) => {
    const entry = header[pick(next, Object.keys(header))] ?? {};
    changeJson(entry, ['dtype', 'shape', 'data_offsets'], FIELD_VALUES, next);
  });
}

/** Two tensors exchange their places, or their names: shapes stand where they do not belong. */
function exchange(copy: AdapterFiles, next: Next): Uint8Array {
  return changeHeader(copy, (header) => {
    const names = Object.keys(header).filter((name) => name !== '__metadata__');
    const [one, other] = [pick(next, names), pick(next, names)];
    const entry = header[one] ?? {};
    header[one] = header[other] ?? {};
    header[other] = entry;
  });
}

function rename(copy: AdapterFiles, next: Next): Uint8Array {
  return changeHeader(copy, (header) => {
    const name = pick(next, Object.keys(header));
    const parts: readonly (readonly [string, string])[] = [
      ['lora_A', 'lora_B'],
      ['.weight', ''],
      ['lora_A', 'lora_A.default'],
      ['.q.', '.k.'],
      ['base_model.model.', ''],
      ['lora_A', 'base_layer'],
      ['.lora_B', ''],
      ['encoder', 'decoder'],
    ];
    const [from, to] = pick(next, parts);
    const entry = header[name] ?? {};
    delete header[name];
    header[name.replace(from, to)] = entry;
  });
}

/** NaN, infinities, the largest and the smallest numbers, over four bytes of data. */
function oddNumbers({ weights }: AdapterFiles, next: Next): Uint8Array {
  const changed = Buffer.from(weights.slice());
  const end = headerEnd(weights);
  const at = end + 4 * whole(next, (weights.length - end) / 4 - 1);
  changed.writeUInt32LE(
    pick(next, [0x7fc00000, 0x7f800000, 0xff800000, 0x7f7fffff, 0x00000001, 0x7c007c00, 0x7e017e01]),
    at,
  );
  return changed;
}

function lyingLength({ weights }: AdapterFiles, next: Next): Uint8Array {
  const changed = Buffer.from(weights.slice());
  changed.writeBigUInt64LE(pick(next, [0n, 1n, 2n, 7n, 100n, 8_000_001n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n]), 0);
  return changed;
}

const CHANGES: readonly ((copy: AdapterFiles, next: Next) => Partial<AdapterFiles>)[] = [
  (copy, next) => ({ config: changeConfig(copy, next) }),
  (copy, next) => ({ config: changeConfig(copy, next) }),
  ({ config }, next) => ({ config: flip(config, next) }),
  ({ config }, next) => ({ config: cut(config, next) }),
  ({ config }, next) => ({ config: insert(config, next) }),
  ({ weights }, next) => ({ weights: flip(weights, next, 0, headerEnd(weights)) }),
  ({ weights }, next) => ({ weights: flip(weights, next) }),
  ({ weights }, next) => ({ weights: cut(weights, next) }),
  ({ weights }, next) => ({ weights: insert(weights, next) }),
  (copy, next) => ({ weights: changeField(copy, next) }),
  (copy, next) => ({ weights: exchange(copy, next) }),
  (copy, next) => ({ weights: rename(copy, next) }),
  (copy, next) => ({ weights: oddNumbers(copy, next) }),
  (copy, next) => ({ weights: lyingLength(copy, next) }),
];

/** Returns the files with one kind of change. */
export function mutate(good: AdapterFiles, next: Next): AdapterFiles {
  return { ...good, ...pick(next, CHANGES)(good, next) };
}

function pathsOf(folder: string): Readonly<Record<keyof AdapterFiles, string>> {
  return { config: join(folder, 'adapter_config.json'), weights: join(folder, 'adapter_model.safetensors') };
}

export async function readAdapterFiles(folder: string): Promise<AdapterFiles> {
  const { config, weights } = pathsOf(folder);
  // a Buffer's slice would be no copy
  return { config: new Uint8Array(await readFile(config)), weights: new Uint8Array(await readFile(weights)) };
}

export async function writeAdapterFiles(folder: string, files: AdapterFiles): Promise<void> {
  const { config, weights } = pathsOf(folder);
  await writeFile(config, files.config);
  await writeFile(weights, files.weights);
}
