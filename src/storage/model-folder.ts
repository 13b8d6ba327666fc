/** A model folder as Hugging Face lays it out, opened as hostile input. */
import { readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BoundedFile, decodeText, findFile, isInside, isObject, parseJsonObject } from './bounded-file.ts';
import { MEBIBYTE } from './byte-size.ts';
import { SafetensorsFile } from './safetensors.ts';
import type { TensorInfo } from './safetensors-header.ts';
import { listed, quoted, StorageError } from './storage-error.ts';

const SAFE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
export const WEIGHTS_FILE = 'model.safetensors';
export const WEIGHTS_INDEX = 'model.safetensors.index.json';
const SIZE_BOUNDS: Readonly<Record<string, number>> = {
  'tokenizer.json': 64 * MEBIBYTE,
  [WEIGHTS_INDEX]: 16 * MEBIBYTE,
};
const WEIGHTS_EXTENSION = '.safetensors';
const GGUF_EXTENSION = '.gguf';
/** Files that can run code when they are opened. */
export const PICKLE = /\.(bin|pt|pth|ckpt|pkl|pickle)$/;
/** Every shard holds an open file; the largest published models have some two hundred. */
export const MAX_SHARDS = 512;
/** How many files a message lists. */
const LISTED_FILES = 10;

async function listFolders(root: string): Promise<string> {
  const entries = await readdir(root, { withFileTypes: true }).catch(() => []);
  const names = entries.filter((entry) => entry.isDirectory() && SAFE_NAME.test(entry.name)).map(({ name }) => name);
  return names.length === 0 ? 'none' : listed(names.sort());
}

/**
 * Returns the real path of folder `name` directly below `parent`; a name is never a path, and no link leads out.
 * `noun` says in messages what the folder holds; default "model".
 */
export async function resolveFolder(parent: string, name: string, noun = 'model'): Promise<string> {
  if (!SAFE_NAME.test(name)) {
    const message = `Expected a folder name of letters, digits, '.', '_' and '-', ${quoted(name)} came.`;
    throw new StorageError('name', message);
  }
  let root: string;
  let folder: string;
  try {
    root = await realpath(parent);
    folder = await realpath(join(root, name));
  } catch (cause) {
    const message = `Expected the name of an existing ${noun} folder (${await listFolders(parent)}), ${name} came.`;
    throw new StorageError('missing', message, { cause });
  }
  if (!isInside(root, folder)) {
    throw new StorageError(
      'name',
      `Expected a folder of the ${noun}s directory, ${name} is a link that leads out of it.`,
    );
  }
  if ((await stat(folder)).isDirectory()) return folder;
  throw new StorageError('missing', `Expected ${name} to be a folder, it is a file.`);
}

/** Returns how many bytes a file of this name may have that is read whole. */
export function smallFileBound(file: string): number {
  return SIZE_BOUNDS[file] ?? MEBIBYTE;
}

/** Opens a file of a folder, held to the size that a file of this name may have; undefined when there is none. */
async function openBounded(folder: string, file: string): Promise<BoundedFile | undefined> {
  const path = await findFile(folder, file);
  if (path === undefined) return undefined;
  const opened = await BoundedFile.open(path, file);
  const bound = smallFileBound(file);
  if (opened.size <= bound) return opened;
  await opened.close();
  throw new StorageError('invalid', `${file}: expected at most ${bound} bytes, it has ${opened.size}.`);
}

/** Reads a text of a folder; undefined when there is no such file. */
export async function readText(folder: string, file: string): Promise<string | undefined> {
  const opened = await openBounded(folder, file);
  if (opened === undefined) return undefined;
  try {
    const bytes = new Uint8Array(opened.size);
    await opened.readInto(bytes, 0);
    return decodeText(bytes, file);
  } finally {
    await opened.close();
  }
}

/** Reads a JSON object from a folder; undefined when there is no such file. */
export async function readJson(folder: string, file: string): Promise<Record<string, unknown> | undefined> {
  const text = await readText(folder, file);
  return text === undefined ? undefined : parseJsonObject(text, file);
}

/**
 * Returns the real path of the GGUF file that a folder's model is in; undefined where it has safetensors, or neither.
 * Throws StorageError when there are several.
 */
export async function findGguf(folder: string): Promise<string | undefined> {
  for (const name of [WEIGHTS_FILE, WEIGHTS_INDEX]) if ((await findFile(folder, name)) !== undefined) return undefined;
  const entries = await readdir(folder).catch(() => []);
  const names = entries.filter((name) => name.endsWith(GGUF_EXTENSION) && SAFE_NAME.test(name)).sort();
  const [name] = names;
  if (name === undefined) return undefined;
  if (names.length === 1) return findFile(folder, name);
  throw new StorageError(
    'invalid',
    `Expected one ${GGUF_EXTENSION} file in the folder, ${names.length} came (${names.slice(0, LISTED_FILES).join(', ')}). Keep one of them there.`,
  );
}

/** Opens the shards that an index names. Each must be a plain file of the folder and hold what the index says. */
class ShardOpener {
  readonly shards = new Map<string, SafetensorsFile>();
  readonly fileOf = new Map<string, SafetensorsFile>();

  constructor(private readonly folder: string) {}

  async openAll(weightMap: Readonly<Record<string, unknown>>): Promise<void> {
    for (const [tensor, shard] of Object.entries(weightMap)) {
      const file = await this.shard(shard);
      if (!file.tensors.has(tensor)) {
        const message = `${quoted(shard)}: expected tensor ${quoted(tensor)}, which ${WEIGHTS_INDEX} puts there; it is missing.`;
        throw new StorageError('invalid', message);
      }
      this.fileOf.set(tensor, file);
    }
  }

  private async shard(name: unknown): Promise<SafetensorsFile> {
    const bad = (problem: string): never => {
      throw new StorageError('invalid', `${WEIGHTS_INDEX}: ${problem}.`);
    };
    if (typeof name !== 'string' || !SAFE_NAME.test(name) || !name.endsWith(WEIGHTS_EXTENSION)) {
      return bad(`expected shards to be names of ${WEIGHTS_EXTENSION} files of its folder, ${quoted(name)} came`);
    }
    const known = this.shards.get(name);
    if (known !== undefined) return known;
    if (this.shards.size === MAX_SHARDS) return bad(`expected at most ${MAX_SHARDS} shards, more came`);
    const path = await findFile(this.folder, name);
    if (path === undefined) return bad(`expected shard ${name} in its folder, it is missing`);
    const file = await SafetensorsFile.open(path);
    this.shards.set(name, file);
    return file;
  }

  async close(): Promise<void> {
    for (const file of this.shards.values()) await file.close();
  }
}

/** The weights of a folder, whether in one file or in shards. */
export class WeightFiles {
  private constructor(
    private readonly files: readonly SafetensorsFile[],
    private readonly fileOf: ReadonlyMap<string, SafetensorsFile>,
  ) {}

  /** Opens the weights and checks all headers; values are read tensor by tensor. Throws StorageError. */
  static async open(folder: string): Promise<WeightFiles> {
    const path = await findFile(folder, WEIGHTS_FILE);
    if (path !== undefined) {
      const file = await SafetensorsFile.open(path);
      return new WeightFiles([file], new Map([...file.tensors.keys()].map((name) => [name, file])));
    }
    const index = await readJson(folder, WEIGHTS_INDEX);
    if (index !== undefined) return WeightFiles.openShards(folder, index.weight_map);
    const names = await readdir(folder).catch(() => []);
    const pickle = names.find((name) => PICKLE.test(name));
    const came =
      pickle === undefined
        ? 'neither is there'
        : `the pickle ${quoted(pickle)} came, which can run code and is never opened. Convert it to safetensors`;
    throw new StorageError('invalid', `Expected ${WEIGHTS_FILE} or ${WEIGHTS_INDEX}: ${came}.`);
  }

  private static async openShards(folder: string, weightMap: unknown): Promise<WeightFiles> {
    if (!isObject(weightMap)) {
      throw new StorageError('invalid', `${WEIGHTS_INDEX}: expected an object weight_map, ${quoted(weightMap)} came.`);
    }
    const opener = new ShardOpener(folder);
    try {
      await opener.openAll(weightMap);
      return new WeightFiles([...opener.shards.values()], opener.fileOf);
    } catch (error) {
      await opener.close();
      throw error;
    }
  }

  names(): readonly string[] {
    return [...this.fileOf.keys()];
  }

  has(name: string): boolean {
    return this.fileOf.has(name);
  }

  info(name: string): TensorInfo | undefined {
    return this.fileOf.get(name)?.tensors.get(name);
  }

  /** Reads one tensor as float32; refuses values that are not finite. */
  async read(name: string): Promise<Float32Array> {
    const file = this.fileOf.get(name);
    if (file === undefined) throw new StorageError('invalid', `Expected tensor ${quoted(name)}, it is missing.`);
    return file.read(name);
  }

  async close(): Promise<void> {
    for (const file of this.files) await file.close();
  }
}
