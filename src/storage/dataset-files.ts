/** What the files of a dataset are called: SPLIT.jsonl, SPLIT.csv or SPLIT.json, and dataset.json. */
import type { DatasetFormat } from './dataset-rows.ts';

interface SplitFile {
  readonly split: string;
  readonly format: DatasetFormat;
}

export const MANIFEST_FILE = 'dataset.json';
const SPLIT_FILE = /^([A-Za-z0-9][A-Za-z0-9._-]{0,127})\.(jsonl|csv|json)$/;
/** Of the `datasets` library: what a dataset is, not what is in it. */
const LIBRARY_FILES: readonly string[] = ['dataset_infos.json', 'dataset_info.json', 'dataset_dict.json'];

/** Undefined: the file holds no split. */
export function splitOf(file: string): SplitFile | undefined {
  const [, split, format] = SPLIT_FILE.exec(file) ?? [];
  if (split === undefined || file === MANIFEST_FILE || LIBRARY_FILES.includes(file)) return undefined;
  return { split, format: format as DatasetFormat };
}
