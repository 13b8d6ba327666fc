/** What every resolver of one request can reach. */

import type { GenerationLoader } from './resolvers/loaders.ts';
import type { AdapterDirectory } from './runtime/adapters/served-adapter.ts';
import type { ModelDirectory } from './runtime/models/served-model.ts';
import type { Summarizer } from './runtime/summarization.ts';
import type { TextGenerator } from './runtime/text-generation.ts';

/** What lives as long as the server. */
export interface Services {
  readonly models: ModelDirectory;
  readonly adapters: AdapterDirectory;
  readonly generator: TextGenerator;
  readonly summarizer: Summarizer;
}

export interface Context {
  readonly services: Services;
  readonly generations: GenerationLoader;
  /** Aborted when the client left. */
  readonly signal: AbortSignal;
  /** Stands in the log and in masked errors. */
  readonly requestId: string;
}
