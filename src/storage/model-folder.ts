/** A model folder as Hugging Face lays it out, opened as hostile input. */
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { SafetensorsFile, type TensorInfo } from './safetensors.ts';
import { StorageError } from './storage-error.ts';

const SAFE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const MEBIBYTE = 1024 * 1024;
const SIZE_BOUNDS: Readonly<Record<string, number>> = {
  'tokenizer.json': 64 * MEBIBYTE,
  'model.safetensors.index.json': 16 * MEBIBYTE,
};
const WEIGHTS_FILE = 'model.safetensors';
const WEIGHTS_INDEX = 'model.safetensors.index.json';
const PICKLE = /\.(bin|pt|pth|ckpt|pkl|pickle)$/;

/** Returns the real path of folder `name` directly below `parent`; a name is never a path, and no link leads out. */
export async function resolveFolder(parent: string, name: string): Promise<string> {
  if (!SAFE_NAME.test(name)) {
    const message = `Expected a folder name of letters, digits, '.', '_' and '-', ${JSON.stringify(name)} came.`;
    throw new StorageError('name', message);
  }
  let root: string;
  let folder: string;
  try {
    root = await realpath(parent);
    folder = await realpath(join(root, name));
  } catch (cause) {
    throw new StorageError('missing', `Expected a model folder ${name}, there is none.`, { cause });
  }
  if (!folder.startsWith(root + sep)) throw new StorageError('name', `${name} leads out of the models directory.`);
  if (!(await stat(folder)).isDirectory()) throw new StorageError('missing', `${name} is a file, expected a folder.`);
  return folder;
}

/** Reads a JSON object from a folder; undefined when there is no such file. */
export async function readJson(folder: string, file: string): Promise<Record<string, unknown> | undefined> {
  const bound = SIZE_BOUNDS[file] ?? MEBIBYTE;
  let text: string;
  try {
    const { size } = await stat(join(folder, file));
    if (size > bound) throw new StorageError('invalid', `${file}: expected at most ${bound} bytes, it has ${size}.`);
    text = await readFile(join(folder, file), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch (cause) {
    throw new StorageError('invalid', `${file}: expected JSON, it does not parse.`, { cause });
  }
  throw new StorageError('invalid', `${file}: expected a JSON object.`);
}

/** The weights of a folder, whether in one file or in shards. */
export class WeightFiles {
  private constructor(
    private readonly files: readonly SafetensorsFile[],
    private readonly fileOf: ReadonlyMap<string, SafetensorsFile>,
  ) {}

  static async open(folder: string): Promise<WeightFiles> {
    const names = new Set(await readdir(folder));
    if (names.has(WEIGHTS_FILE)) {
      const file = await SafetensorsFile.open(join(folder, WEIGHTS_FILE));
      return new WeightFiles([file], new Map([...file.tensors.keys()].map((name) => [name, file])));
    }
    if (names.has(WEIGHTS_INDEX)) return WeightFiles.openShards(folder, names);
    const pickle = [...names].find((name) => PICKLE.test(name));
    const came = pickle === undefined ? 'neither is there' : `only the pickle ${pickle} came, which is never opened`;
    throw new StorageError('invalid', `Expected ${WEIGHTS_FILE} or ${WEIGHTS_INDEX}: ${came}.`);
  }

  private static async openShards(folder: string, names: ReadonlySet<string>): Promise<WeightFiles> {
    const map = (await readJson(folder, WEIGHTS_INDEX))?.weight_map;
    if (typeof map !== 'object' || map === null) {
      throw new StorageError('invalid', `${WEIGHTS_INDEX}: expected an object weight_map.`);
    }
    const shards = new Map<string, SafetensorsFile>();
    try {
      const fileOf = new Map<string, SafetensorsFile>();
      for (const [tensor, shard] of Object.entries(map)) {
        if (typeof shard !== 'string' || !SAFE_NAME.test(shard) || !names.has(shard)) {
          const message = `${WEIGHTS_INDEX}: expected ${JSON.stringify(shard)} to be a file of this folder.`;
          throw new StorageError('invalid', message);
        }
        const file = shards.get(shard) ?? (await SafetensorsFile.open(join(folder, shard)));
        shards.set(shard, file);
        if (!file.tensors.has(tensor)) {
          throw new StorageError('invalid', `${shard}: expected tensor ${tensor}, which ${WEIGHTS_INDEX} puts there.`);
        }
        fileOf.set(tensor, file);
      }
      return new WeightFiles([...shards.values()], fileOf);
    } catch (error) {
      for (const file of shards.values()) await file.close();
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

  async read(name: string): Promise<Float32Array> {
    const file = this.fileOf.get(name);
    if (file === undefined) throw new StorageError('invalid', `Expected tensor ${name}, it is missing.`);
    return file.read(name);
  }

  async close(): Promise<void> {
    for (const file of this.files) await file.close();
  }
}
