/** Samples of a split that was checked, to be read as often as needed. */
import type { DatasetSample } from '../../storage/dataset-columns.ts';
import { DatasetSplit, type SplitFacts, type SplitSource } from '../../storage/dataset-split.ts';
import { StorageError } from '../../storage/storage-error.ts';
import { toDatasetError } from './dataset-errors.ts';

export interface ServedDataset {
  readonly id: string;
  /** As dataset.json has it, else the id. */
  readonly name: string;
  readonly license: string | null;
}

export class DatasetSelection {
  constructor(
    readonly dataset: ServedDataset,
    readonly split: string,
    /** Of the samples selected, ascending: their places in the split, from 0. */
    readonly indexes: Uint32Array,
    private readonly parts: {
      readonly source: SplitSource;
      readonly facts: SplitFacts;
      readonly references: readonly number[];
    },
  ) {}

  /** Of the split's file, in hexadecimal digits. */
  get sha256(): string {
    return this.parts.facts.sha256;
  }

  get textColumn(): string {
    return this.parts.facts.columns.text;
  }

  /** Of the reference sets selected. */
  get referenceColumns(): readonly string[] {
    const { facts, references } = this.parts;
    return references.map((index) => facts.columns.references[index] as string);
  }

  /**
   * Yields samples in ascending order, those of `indexes` that `isWanted` names; default: all. Throws RuntimeError
   * INVALID_DATASET when the file is no longer the one that was checked.
   */
  async *samples(isWanted: (index: number) => boolean = () => true): AsyncGenerator<DatasetSample> {
    const { source, facts, references } = this.parts;
    try {
      const split = await DatasetSplit.open(source);
      try {
        if (split.version !== facts.version) {
          const message = `${source.name}: expected the file that was checked before, it has changed. Start again.`;
          throw new StorageError('invalid', message);
        }
        for await (const sample of split.samples(facts.columns, this.indexes.filter(isWanted))) {
          yield { ...sample, references: references.map((index) => sample.references[index] as string) };
        }
      } finally {
        await split.close();
      }
    } catch (error) {
      throw toDatasetError(error);
    }
  }
}
