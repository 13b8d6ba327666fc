/** What a training reads, which is to be where it is worked on. */
import type { DatasetSelection } from '../../runtime/datasets/dataset-selection.ts';
import { readModelFiles } from '../../runtime/models/model-files.ts';
import type { TrainingPlan } from '../run/trainer-protocol.ts';
import type { TrainingParts } from './training-parts.ts';

/** Throws RuntimeError unless the model's folder and the splits of the dataset are there. */
export async function checkNeeds(
  parts: Pick<TrainingParts, 'datasets' | 'folders'>,
  { modelSource, data }: TrainingPlan,
): Promise<void> {
  await readModelFiles(modelSource, parts.folders.models);
  await openSplit(parts, data, data.split, data.limit);
  if (data.validation !== null) await openSplit(parts, data, data.validation.split, data.validation.limit);
}

/** `limit`: of the first samples; null: all of them. Throws RuntimeError. */
export function openSplit(
  { datasets }: Pick<TrainingParts, 'datasets'>,
  { dataset }: { readonly dataset: string },
  split: string,
  limit: number | null,
): Promise<DatasetSelection> {
  return datasets.open({ dataset, split, limit, sampleSeed: null, references: [0] });
}
