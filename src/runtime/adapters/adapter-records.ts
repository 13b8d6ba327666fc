/** What the registry's file says: all adapters, those of models out of service too, and which one each model answers with. */
import type { AdapterStore, StoredAdapter } from '../../storage/adapter-store.ts';
import { TakenError } from '../../storage/storage-error.ts';
import { RuntimeError } from '../errors.ts';
import type { LoraTargets } from '../graph/lora.ts';

/** Changes are in memory at once and on the disk with the next `save` that succeeds. */
export class AdapterRecords {
  private readonly records = new Map<string, StoredAdapter>();
  private readonly active = new Map<string, string>();

  private constructor(private readonly store: AdapterStore) {}

  static async open(store: AdapterStore, onWarning: (warning: string) => void): Promise<AdapterRecords> {
    const records = new AdapterRecords(store);
    const { adapters, active } = await store.read(onWarning);
    for (const adapter of adapters) records.add(adapter);
    for (const [modelId, id] of active) records.setActive(modelId, id);
    return records;
  }

  get ids(): readonly string[] {
    return [...this.records.keys()];
  }

  get(id: string): StoredAdapter | undefined {
    return this.records.get(id);
  }

  ofModel(modelId: string): readonly StoredAdapter[] {
    return [...this.records.values()].filter(({ model }) => model === modelId);
  }

  activeOf(modelId: string): string | undefined {
    return this.active.get(modelId);
  }

  add(record: StoredAdapter): void {
    this.records.set(record.id, record);
  }

  /** Removes an adapter, from being active too. */
  remove(id: string): void {
    const record = this.records.get(id);
    if (record === undefined) return;
    this.records.delete(id);
    if (this.active.get(record.model) === id) this.active.delete(record.model);
  }

  /** Undefined, or an adapter that is gone: the model's own weights. */
  setActive(modelId: string, id: string | undefined): void {
    if (id !== undefined && this.records.get(id)?.model === modelId) this.active.set(modelId, id);
    else this.active.delete(modelId);
  }

  /** The matrices that the adapters of a model change. */
  targetsOf(modelId: string): LoraTargets {
    const modules = new Set<string>();
    const gains = new Set<string>();
    for (const { facts } of this.ofModel(modelId)) {
      for (const module of facts.modules) {
        modules.add(module);
        if (facts.method === 'DORA') gains.add(module);
      }
    }
    return { modules, gains };
  }

  /** Rejects with CONFLICT where another process writes the file. */
  async save(): Promise<void> {
    try {
      await this.store.save({ adapters: [...this.records.values()], active: new Map(this.active) });
    } catch (cause) {
      if (cause instanceof TakenError) throw new RuntimeError('CONFLICT', cause.message, {}, { cause });
      throw cause;
    }
  }

  /** Waits for what is being saved, and lets other processes write. */
  close(): Promise<void> {
    return this.store.close();
  }

  /** Removes an adapter and saves; where that fails it is there still. False when there is no such adapter. */
  async forget(id: string): Promise<boolean> {
    const record = this.records.get(id);
    if (record === undefined) return false;
    const wasActive = this.active.get(record.model) === id;
    this.remove(id);
    try {
      await this.save();
    } catch (error) {
      // its id may have been given away meanwhile
      if (!this.records.has(id)) this.add(record);
      if (wasActive && !this.active.has(record.model)) this.setActive(record.model, id);
      throw error;
    }
    return true;
  }
}
