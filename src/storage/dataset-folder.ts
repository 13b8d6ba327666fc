/** A dataset's folder: SPLIT.jsonl, SPLIT.csv or SPLIT.json for each split, and a dataset.json where it needs one. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type DatasetManifest, defaultManifest, parseManifest } from './dataset-columns.ts';
import { MANIFEST_FILE, splitOf } from './dataset-files.ts';
import type { SplitSource } from './dataset-split.ts';
import { readJson, resolveFolder } from './model-folder.ts';
import { StorageError } from './storage-error.ts';

/** Names of the folders of `root`, links to folders among them; none where there is no `root`. */
export async function listDatasetFolders(root: string): Promise<readonly string[]> {
  const entries = await readdir(root, { withFileTypes: true }).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return [];
    const message = `Expected a folder of datasets, it cannot be read (${cause.code}).`;
    throw new StorageError('invalid', message, { cause });
  });
  const names: string[] = [];
  for (const entry of entries) {
    if (entry.name.startsWith('.')) continue;
    const isFolder = entry.isSymbolicLink()
      ? await stat(join(root, entry.name)).then(
          (found) => found.isDirectory(),
          () => false,
        )
      : entry.isDirectory();
    if (isFolder) names.push(entry.name);
  }
  return names;
}

export class DatasetFolder {
  private constructor(
    private readonly path: string,
    private readonly id: string,
    readonly manifest: DatasetManifest,
  ) {}

  /** Opens the folder `id` of the first of `roots` that has it. Throws StorageError. */
  static async open(roots: readonly string[], id: string): Promise<DatasetFolder> {
    return DatasetFolder.at(await resolveInside(roots, id), id);
  }

  /** Opens a folder that was found elsewhere. */
  static async at(path: string, id: string): Promise<DatasetFolder> {
    const json = await readJson(path, MANIFEST_FILE);
    const manifest = json === undefined ? defaultManifest : parseManifest(json, `${id}/${MANIFEST_FILE}`);
    return new DatasetFolder(path, id, manifest);
  }

  /** The files of each split, by its name; a split must have one. */
  async splits(): Promise<ReadonlyMap<string, readonly SplitSource[]>> {
    const splits = new Map<string, SplitSource[]>();
    for (const file of (await readdir(this.path)).sort()) {
      const found = splitOf(file);
      if (found === undefined) continue;
      const { split, format } = found;
      const source = {
        folder: this.path,
        file,
        format,
        name: `${this.id}/${file}`,
        columns: this.manifest.columns,
      };
      splits.set(split, [...(splits.get(split) ?? []), source]);
    }
    return splits;
  }
}

async function resolveInside(roots: readonly string[], id: string): Promise<string> {
  let missing: unknown;
  for (const root of roots) {
    try {
      return await resolveFolder(root, id, 'dataset');
    } catch (error) {
      if (!(error instanceof StorageError) || error.reason !== 'missing') throw error;
      missing = error;
    }
  }
  throw missing;
}
