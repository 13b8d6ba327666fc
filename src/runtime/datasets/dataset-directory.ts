/**
 * The datasets that evaluations and trainings read: folders of the user's directory, those that come with GistQL, and
 * repositories of the hub. An id is the name of a folder, of which the user's comes first, or a source `hub:…`. A file is
 * checked as a whole before it is used, once for each version of it.
 */
import { DatasetFolder, listDatasetFolders } from '../../storage/dataset-folder.ts';
import { DatasetSplit, type SplitFacts, type SplitSource } from '../../storage/dataset-split.ts';
import { isHubSource } from '../../storage/hub/hub-source.ts';
import { quoted, StorageError } from '../../storage/storage-error.ts';
import { RuntimeError } from '../errors.ts';
import { findHubFolder, type SourceFetcher } from '../hub-sources.ts';
import { RETRY_MS } from '../retry.ts';
import { withDatasetErrors } from './dataset-errors.ts';
import { DatasetSelection, type ServedDataset } from './dataset-selection.ts';
import { checkChoice, type SampleChoice, selectIndexes, selectReferences } from './sample-selection.ts';

export interface DatasetDirectories {
  /** The user's own. */
  readonly datasets: string;
  /** Those that come with GistQL. */
  readonly embedded: string;
  /** Hugging Face's cache. Default: sources of the hub are names that no folder has. */
  readonly hubCacheDir?: string;
}

interface SplitSummary {
  readonly name: string;
  readonly sampleCount: number;
  readonly referenceCount: number;
}

export interface DatasetSurvey {
  /** Those without a problem. */
  readonly splits: readonly SplitSummary[];
  /** What is wrong with the files, one sentence each. */
  readonly problems: readonly string[];
}

export interface SplitRequest extends SampleChoice {
  readonly dataset: string;
  readonly split: string;
  /** Reference sets by index, from 0, in the order of `referenceColumns`; null takes all. */
  readonly references: readonly number[] | null;
}

/** What came of the check of one version of a file; broken files are remembered too. */
type CheckOutcome = { readonly facts: SplitFacts } | { readonly error: StorageError };

interface Check {
  readonly version: string;
  readonly outcome: Promise<CheckOutcome>;
}

/** How many names a message lists. */
const LISTED_NAMES = 20;

function listed(names: readonly string[]): string {
  const more = names.length > LISTED_NAMES ? ', …' : '';
  return names.length === 0 ? 'none' : `${names.slice(0, LISTED_NAMES).join(', ')}${more}`;
}

function onlyFile(split: string, sources: readonly SplitSource[]): SplitSource {
  const [source, other] = sources;
  if (source !== undefined && other === undefined) return source;
  const names = sources.map(({ name }) => name).join(' and ');
  throw new StorageError('invalid', `Expected one file of split ${split}, ${names} came. Leave one of them.`);
}

export class DatasetDirectory {
  private readonly roots: readonly string[];
  private readonly checks = new Map<string, Check>();

  constructor(
    private readonly directories: DatasetDirectories,
    private readonly stopping?: AbortSignal,
    /** Default: nothing is fetched. */
    private readonly sources?: SourceFetcher,
  ) {
    this.roots = [directories.datasets, directories.embedded];
  }

  /** Every dataset, by id; those with problems too. */
  list(): Promise<readonly ServedDataset[]> {
    return withDatasetErrors(async () => Promise.all((await this.ids()).map((id) => this.describe(id))));
  }

  /** The dataset of that id, whether or not it is still there: what refers to it says so by itself. */
  find(id: string): Promise<ServedDataset> {
    return withDatasetErrors(() => this.describe(id));
  }

  /** Checks every split. Throws RuntimeError NOT_FOUND, and OVERLOADED when the server is stopping. */
  survey(id: string): Promise<DatasetSurvey> {
    return withDatasetErrors(async () => {
      const splits: SplitSummary[] = [];
      const problems: string[] = [];
      const collect = async (work: () => Promise<unknown>): Promise<void> => {
        try {
          await work();
        } catch (error) {
          if (!(error instanceof StorageError)) throw error;
          problems.push(error.message);
        }
      };
      await collect(async () => {
        const found = await (await this.folder(id)).splits();
        if (found.size === 0)
          problems.push(`${id}: expected a file SPLIT.jsonl, SPLIT.csv or SPLIT.json, none is there.`);
        for (const [name, sources] of found) {
          await collect(async () => {
            const { sampleCount, columns } = await this.check(onlyFile(name, sources));
            splits.push({ name, sampleCount, referenceCount: columns.references.length });
          });
        }
      });
      return { splits, problems };
    });
  }

  /**
   * Checks a split and selects samples of it; what is on the hub is fetched first, and the selection's dataset has the
   * id by which it is the same for ever. Throws RuntimeError NOT_FOUND for a dataset or split that is not there,
   * BAD_USER_INPUT for a limit, seed or reference that cannot be, INVALID_DATASET naming file and line.
   */
  open(request: SplitRequest): Promise<DatasetSelection> {
    return withDatasetErrors(async () => {
      checkChoice(request);
      const { split } = request;
      const id = (await this.sources?.fetch('dataset', request.dataset)) ?? request.dataset;
      const folder = await this.folder(id);
      const found = await folder.splits();
      const sources = found.get(split);
      if (sources === undefined) {
        const message = `Expected split to be one of ${id}'s (${listed([...found.keys()])}), ${quoted(split)} came.`;
        throw new RuntimeError('NOT_FOUND', message, { argument: 'split' });
      }
      const source = onlyFile(split, sources);
      const facts = await this.check(source);
      const references = selectReferences(facts.columns.references, request.references);
      const indexes = selectIndexes(facts.sampleCount, request);
      return new DatasetSelection(toDataset(id, folder), split, indexes, { source, facts, references });
    });
  }

  private async ids(): Promise<readonly string[]> {
    const names = await Promise.all(this.roots.map(listDatasetFolders));
    return [...new Set(names.flat())].sort();
  }

  private async folder(id: string): Promise<DatasetFolder> {
    const { hubCacheDir } = this.directories;
    if (hubCacheDir !== undefined && isHubSource(id)) {
      return DatasetFolder.at((await findHubFolder(hubCacheDir, 'dataset', id)).folder, id);
    }
    try {
      return await DatasetFolder.open(this.roots, id);
    } catch (error) {
      if (!(error instanceof StorageError) || error.reason !== 'missing') throw error;
      const message = `Expected dataset to be one of ${listed(await this.ids())}; ${quoted(id)} came. Put its folder there, or choose another.`;
      throw new RuntimeError('NOT_FOUND', message, { argument: 'dataset' }, { cause: error });
    }
  }

  private async describe(id: string): Promise<ServedDataset> {
    try {
      return toDataset(id, await this.folder(id));
    } catch (error) {
      // the survey tells what is wrong
      if (error instanceof StorageError || isHubSource(id)) return { id, name: id, license: null };
      throw error;
    }
  }

  /** Checks a file unless this version of it has been, or is being. */
  private async check(source: SplitSource): Promise<SplitFacts> {
    const split = await DatasetSplit.open(source);
    const key = JSON.stringify([source.folder, source.file, source.columns]);
    const known = this.checks.get(key);
    if (known?.version === split.version) {
      await split.close();
      return factsOf(await known.outcome);
    }
    const check = { version: split.version, outcome: this.run(split) };
    this.checks.set(key, check);
    try {
      return factsOf(await check.outcome);
    } catch (error) {
      // what did not come of the file itself may not come again
      if (!(error instanceof StorageError) && this.checks.get(key) === check) this.checks.delete(key);
      throw error;
    }
  }

  private async run(split: DatasetSplit): Promise<CheckOutcome> {
    try {
      return { facts: await split.check(this.stopping) };
    } catch (error) {
      if (error instanceof StorageError) return { error };
      if (!this.stopping?.aborted) throw error;
      const message = `Expected time to check a dataset, but the server is stopping. Send it again in ${RETRY_MS} ms.`;
      throw new RuntimeError('OVERLOADED', message, { retryAfterMs: RETRY_MS });
    } finally {
      await split.close();
    }
  }
}

function factsOf(outcome: CheckOutcome): SplitFacts {
  if ('error' in outcome) throw outcome.error;
  return outcome.facts;
}

function toDataset(id: string, { manifest }: DatasetFolder): ServedDataset {
  return { id, name: manifest.name ?? id, license: manifest.license };
}
