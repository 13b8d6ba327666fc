/** One adapter of a registry with all that changes about it. */

import type { AdapterFacts } from '../../storage/adapter-facts.ts';
import type { StoredAdapter } from '../../storage/adapter-store.ts';
import type { ServedModel } from '../models/served-model.ts';
import type { Tenant } from './adapter-residency.ts';
import type { AdapterStatus, ServedAdapter } from './served-adapter.ts';

/** What is told of an adapter while its files are being read: the schema has no absent rank. */
const unread: AdapterFacts = {
  method: 'LORA',
  rank: 0,
  alpha: 0,
  targetModules: [],
  modules: [],
  parameterCount: 0,
  sizeBytes: 0,
  memoryBytes: 0,
  sha256: '',
  configSha256: '',
  report: { matchedTensors: [], unmatchedTensors: [], zeroTensors: [], warnings: [] },
};

export interface EntryOptions {
  readonly id: string;
  readonly name: string;
  readonly model: ServedModel;
  readonly source: string;
  /** Brings its factors from its files into its model's engine. */
  readonly bringIn: (entry: AdapterEntry) => Promise<void>;
}

export class AdapterEntry implements ServedAdapter, Tenant {
  readonly id: string;
  readonly name: string;
  readonly model: ServedModel;
  readonly source: string;
  readonly loadedAt = new Date();
  status: AdapterStatus = 'loading';
  facts = unread;
  requestCount = 0;
  completionTokenCount = 0;
  /** Set while it is being unloaded; resolves when it is gone. */
  unloading: Promise<void> | undefined;
  private storedOnce: StoredAdapter | undefined;
  private leaseCount = 0;
  private whenIdle: (() => void)[] = [];

  constructor(private readonly options: EntryOptions) {
    const { id, name, model, source } = options;
    this.id = id;
    this.name = name;
    this.model = model;
    this.source = source;
  }

  get memoryBytes(): number {
    return this.facts.memoryBytes;
  }

  /** What the registry's file says of it, always the same object; to be asked when its files are read. */
  get stored(): StoredAdapter {
    const { id, name, model, source, facts } = this;
    this.storedOnce ??= { id, name, model: model.id, source, facts };
    return this.storedOnce;
  }

  /** As it is now, whatever becomes of it. */
  snapshot(): ServedAdapter {
    const { id, name, model, source, status, facts, loadedAt, requestCount, completionTokenCount } = this;
    return { id, name, model, source, status, facts, loadedAt, requestCount, completionTokenCount };
  }

  bringIn(): Promise<void> {
    return this.options.bringIn(this);
  }

  putOut(): void {
    this.model.engine.dropAdapter(this.id);
  }

  addLease(): void {
    this.leaseCount++;
  }

  endLease(): void {
    this.leaseCount--;
    if (this.leaseCount === 0) for (const resolve of this.whenIdle.splice(0)) resolve();
  }

  /** Resolves when no request has it. */
  idle(): Promise<void> {
    return this.leaseCount === 0 ? Promise.resolve() : new Promise((resolve) => this.whenIdle.push(resolve));
  }
}
