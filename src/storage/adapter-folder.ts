/** An adapter's folder as PEFT lays it out, opened as hostile input. */
import { readdir } from 'node:fs/promises';
import { findFile, isObject, parseJsonObject } from './bounded-file.ts';
import { countKeys } from './json-keys.ts';
import { readText } from './model-folder.ts';
import { SafetensorsFile } from './safetensors.ts';
import { quoted, StorageError } from './storage-error.ts';

export const ADAPTER_CONFIG_FILE = 'adapter_config.json';
export const ADAPTER_WEIGHTS_FILE = 'adapter_model.safetensors';
const PICKLE = /^adapter_model\.(bin|pt|pth|ckpt|pkl|pickle)$/;
/** Published adapters have some hundreds. */
const MAX_TENSORS = 20_000;
/** Room for so many tensors; parsed, JSON takes many times its length. */
const MAX_HEADER_BYTES = 8_000_000;

/** Keys of all objects within a value; a loop, since the depth is whatever the file says. */
function countParsedKeys(value: unknown): number {
  let keys = 0;
  const waiting: unknown[] = [value];
  while (waiting.length > 0) {
    const next = waiting.pop();
    const inner = isObject(next) ? Object.values(next) : Array.isArray(next) ? next : [];
    if (isObject(next)) keys += inner.length;
    for (const item of inner) if (typeof item === 'object') waiting.push(item);
  }
  return keys;
}

async function readConfig(folder: string): Promise<Readonly<Record<string, unknown>>> {
  const text = await readText(folder, ADAPTER_CONFIG_FILE);
  if (text === undefined)
    throw new StorageError(
      'invalid',
      `Expected a file ${ADAPTER_CONFIG_FILE}, there is none. Put in what PEFT's save_pretrained wrote.`,
    );
  const json = parseJsonObject(text, ADAPTER_CONFIG_FILE);
  if (countKeys(text) === countParsedKeys(json)) return json;
  throw new StorageError(
    'invalid',
    `${ADAPTER_CONFIG_FILE}: expected each key once, one comes twice. Leave one of them out.`,
  );
}

async function openWeights(folder: string): Promise<SafetensorsFile> {
  const path = await findFile(folder, ADAPTER_WEIGHTS_FILE);
  if (path === undefined) {
    const names = await readdir(folder).catch(() => []);
    const pickle = names.find((name) => PICKLE.test(name));
    const came =
      pickle === undefined
        ? "there is none. Put in what PEFT's save_pretrained wrote"
        : `the pickle ${quoted(pickle)} came, which can run code and is never opened. Convert it to safetensors`;
    throw new StorageError('invalid', `Expected a file ${ADAPTER_WEIGHTS_FILE}, ${came}.`);
  }
  const file = await SafetensorsFile.open(path, MAX_HEADER_BYTES);
  const count = file.tensors.size;
  if (count <= MAX_TENSORS) return file;
  await file.close();
  throw new StorageError(
    'invalid',
    `${ADAPTER_WEIGHTS_FILE}: expected at most ${MAX_TENSORS} tensors, ${count} came. Save the adapter alone, without the model.`,
  );
}

export class AdapterFolder {
  private constructor(
    /** What adapter_config.json says, unchecked but for its being an object that names each key once. */
    readonly config: Readonly<Record<string, unknown>>,
    readonly weights: SafetensorsFile,
  ) {}

  /** Reads the config, opens the weights and checks their header. Throws StorageError. */
  static async open(folder: string): Promise<AdapterFolder> {
    const config = await readConfig(folder);
    return new AdapterFolder(config, await openWeights(folder));
  }

  async close(): Promise<void> {
    await this.weights.close();
  }
}
