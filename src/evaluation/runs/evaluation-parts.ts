/** What runs are made of. */
import type { AdapterDirectory } from '../../runtime/adapters/served-adapter.ts';
import type { DatasetDirectory } from '../../runtime/datasets/dataset-directory.ts';
import type { Clock } from '../../runtime/engine/clock.ts';
import type { ModelDirectory } from '../../runtime/models/served-model.ts';
import type { Summarizer } from '../../runtime/summarization.ts';
import type { RougeScorer } from '../rouge/rouge.ts';

export interface EvaluationParts {
  readonly models: ModelDirectory;
  readonly adapters: AdapterDirectory;
  readonly datasets: DatasetDirectory;
  readonly summarizer: Summarizer;
  readonly rouge: RougeScorer;
  readonly clock: Clock;
  /** Of GistQL, which belongs to a run's signature. */
  readonly version: string;
}
