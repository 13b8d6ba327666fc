/** Datasets of a few lines, written for a test. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { DatasetDirectory } from '../../src/runtime/datasets/dataset-directory.ts';
import type { DatasetSample } from '../../src/storage/dataset-columns.ts';
import { temporaryFolder } from './tiny-model.ts';

/** Content of a file by its name: text, bytes, or rows. `.json` gets rows as an array, `.jsonl` one a line. */
export type DatasetFiles = Readonly<Record<string, string | Uint8Array | readonly object[]>>;

function contentOf(file: string, content: DatasetFiles[string]): string | Uint8Array {
  if (typeof content === 'string' || content instanceof Uint8Array) return content;
  return file.endsWith('l') ? content.map((row) => `${JSON.stringify(row)}\n`).join('') : JSON.stringify(content);
}

/** Writes the folder `id` below `root`. */
export async function writeDataset(root: string, id: string, files: DatasetFiles): Promise<string> {
  const folder = join(root, id);
  await mkdir(folder, { recursive: true });
  for (const [file, content] of Object.entries(files)) await writeFile(join(folder, file), contentOf(file, content));
  return folder;
}

/** Rows as DialogSum has them, with so many references. */
export function rowsOf(count: number, referenceCount = 1): readonly object[] {
  return Array.from({ length: count }, (_, row) => ({
    fname: `row_${row}`,
    dialogue: `#Person1#: Text ${row}.\n#Person2#: "Yes", it is.`,
    ...Object.fromEntries(
      Array.from({ length: referenceCount }, (_item, reference) => [
        referenceCount === 1 ? 'summary' : `summary${reference + 1}`,
        `Summary ${reference} of ${row}.`,
      ]),
    ),
  }));
}

/** A directory of the user's with one dataset, `mine`, and no others. */
export async function oneDataset(
  t: TestContext,
  files: DatasetFiles,
): Promise<{ readonly datasets: DatasetDirectory; readonly root: string; readonly folder: string }> {
  const root = await temporaryFolder(t);
  const folder = await writeDataset(root, 'mine', files);
  return { datasets: new DatasetDirectory({ datasets: root, embedded: join(root, 'none') }), root, folder };
}

export async function collect(samples: AsyncIterable<DatasetSample>): Promise<readonly DatasetSample[]> {
  const all: DatasetSample[] = [];
  for await (const sample of samples) all.push(sample);
  return all;
}
