/** What the serving thread and the adapter loader's thread say to each other. Plain data: it is cloned on the way. */
import type { TransferredError } from '../transfer-error.ts';
import type { AdapterPlaces } from './adapter-source.ts';
import type { AdapterBase, AdapterLimits, LoadedAdapter } from './read-adapter.ts';

/** What the thread is started with. */
export interface AdapterLoaderSetup {
  readonly places: AdapterPlaces;
  readonly limits: AdapterLimits;
}

export interface ToAdapterLoader {
  readonly loadId: number;
  /** `dir:NAME` or `hub:…` */
  readonly source: string;
  readonly base: AdapterBase;
}

export type FromAdapterLoader =
  | { readonly type: 'loaded'; readonly loadId: number; readonly adapter: LoadedAdapter }
  | { readonly type: 'failed'; readonly loadId: number; readonly error: TransferredError };
