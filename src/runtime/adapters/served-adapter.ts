/** An adapter in service as the rest of the server sees it. */

import type { AdapterFacts } from '../../storage/adapter-facts.ts';
import type { WeightedAdapter } from '../lora/lora-weights.ts';
import type { ServedModel } from '../models/served-model.ts';

/**
 * loading: its files are being read. ready: requests may name it. draining: it is being unloaded; requests that have it
 * keep it. failed: its files are gone or broken; a request that names it looks at them anew.
 */
export type AdapterStatus = 'loading' | 'ready' | 'draining' | 'failed';

export interface ServedAdapter {
  readonly id: string;
  readonly name: string;
  readonly model: ServedModel;
  /** `dir:NAME`. */
  readonly source: string;
  readonly status: AdapterStatus;
  /** What its files say; empty until they are read. */
  readonly facts: AdapterFacts;
  /** When it came into service in this process. */
  readonly loadedAt: Date;
  /** Requests and completion tokens answered with it since then. */
  readonly requestCount: number;
  readonly completionTokenCount: number;
}

/** One adapter of a request, and how much of it. */
export interface AdapterChoice {
  readonly id: string;
  /** Default: 1. */
  readonly weight?: number | null;
}

export interface LoadAdapterRequest {
  readonly id: string;
  readonly modelId: string;
  readonly source: string;
  /** Default: the id. */
  readonly name?: string | null;
  /** Whether the model answers with it from then on. Default: false. */
  readonly activate?: boolean;
}

export interface AdapterChange {
  /**
   * activated: the model answers with `adapter`, whatever it answered with before. deactivated: the model answers with
   * its own weights again; `adapter` is the one it had.
   */
  readonly change: 'loaded' | 'activated' | 'deactivated' | 'unloaded' | 'failed';
  readonly model: ServedModel;
  /** As it was then, not as it is when the change is read. */
  readonly adapter: ServedAdapter;
}

/**
 * The adapters of one request, which stay in service until it is released. They take no room in memory meanwhile: what
 * has a lease may wait for others, and what waits must hold nothing, or two requests could wait for each other.
 */
export interface AdapterLease {
  readonly adapters: readonly ServedAdapter[];
  /**
   * Brings the adapters into memory, waiting for room in order of arrival, and keeps them there while `work` runs. Where
   * all are there, `work` begins in the same tick. Undefined: the signal was aborted before it could begin.
   * Rejects with INVALID_ADAPTER (files that changed), TIMEOUT, OVERLOADED, or what `work` rejects with.
   */
  use<T>(work: (weighted: readonly WeightedAdapter[]) => Promise<T>, signal?: AbortSignal): Promise<T | undefined>;
  /** Counts a request that was answered with them. */
  count(completionTokenCount: number): void;
  /** Again and again is no harm. */
  release(): void;
}

/** Finds adapters by id; `AdapterRegistry` is the real one. */
export interface AdapterDirectory {
  /** The adapters of a model, of all models when the id is absent, in order of their coming. */
  list(modelId?: string): readonly ServedAdapter[];
  find(id: string): ServedAdapter | undefined;
  /** What answers the model's requests that name no adapter; undefined: the model's own weights. */
  activeOf(modelId: string): ServedAdapter | undefined;
  /** Rejects with BAD_USER_INPUT, NOT_FOUND, CONFLICT, INVALID_ADAPTER or INCOMPATIBLE_ADAPTER; leaves nothing then. */
  load(request: LoadAdapterRequest): Promise<ServedAdapter>;
  /**
   * Waits for the requests that have it, then frees it. False when there is no such adapter. Rejects when that could not
   * be written to the disk: it is gone all the same, but for an adapter whose model is not in service.
   */
  unload(id: string): Promise<boolean>;
  /**
   * From the next request on once it resolves; null: the model's own weights. Rejects with NOT_FOUND, BAD_USER_INPUT or
   * CONFLICT, or when it could not be written to the disk; all is as it was then.
   */
  activate(modelId: string, adapterId: string | null): Promise<void>;
  /**
   * The adapters of a request: null the active one, an empty list none, else their weighted sum.
   * Throws NOT_FOUND, BAD_USER_INPUT or CONFLICT.
   */
  acquire(model: ServedModel, choices: readonly AdapterChoice[] | null): AdapterLease;
  /** What happens from now on, to adapters of one model or of all; ends with the signal or with the server. */
  changes(modelId: string | null, signal: AbortSignal): AsyncIterable<AdapterChange>;
}
