/** What every resolver of one request can reach. */

import type { RougeScorer } from './evaluation/rouge/rouge.ts';
import type { Evaluations } from './evaluation/runs/evaluations.ts';
import type { RunAccess } from './jobs/run-desk.ts';
import type { GenerationLoader } from './resolvers/loaders.ts';
import type { AdapterDirectory } from './runtime/adapters/served-adapter.ts';
import type { DatasetDirectory } from './runtime/datasets/dataset-directory.ts';
import type { ModelDirectory } from './runtime/models/served-model.ts';
import type { Summarizer } from './runtime/summarization.ts';
import type { TextGenerator } from './runtime/text-generation.ts';
import type { Trainings } from './training/jobs/trainings.ts';

/** What lives as long as the server. */
export interface Services {
  readonly models: ModelDirectory;
  readonly adapters: AdapterDirectory;
  readonly datasets: DatasetDirectory;
  readonly evaluations: RunAccess<Evaluations>;
  readonly trainings: RunAccess<Trainings>;
  readonly generator: TextGenerator;
  readonly summarizer: Summarizer;
  /** One for all requests: it remembers stems, and gives each turn of the event loop to one of them. */
  readonly rouge: RougeScorer;
}

export interface Context {
  readonly services: Services;
  readonly generations: GenerationLoader;
  /** Aborted when the client left. */
  readonly signal: AbortSignal;
  /** Stands in the log and in masked errors. */
  readonly requestId: string;
}
