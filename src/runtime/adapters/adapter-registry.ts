/**
 * The adapters in service: loads them, finds them, lends them to requests, lets them go, and remembers them over a
 * restart. An adapter is in service while its model is; the others wait in the registry's file for their model.
 */
import type { AdapterStore, StoredAdapter } from '../../storage/adapter-store.ts';
import { isHubSource } from '../../storage/hub/hub-source.ts';
import type { LoraTargets } from '../graph/lora.ts';
import type { SourceFetcher } from '../hub-sources.ts';
import type { LoraWeights } from '../lora/lora-weights.ts';
import type { ModelAdapters, ServedModel } from '../models/served-model.ts';
import { type AdapterPlaces, resolveAdapterFolder } from '../peft/adapter-source.ts';
import type { AdapterBase, LoadedAdapter } from '../peft/read-adapter.ts';
import { AdapterEntry } from './adapter-entry.ts';
import { AdapterFeed } from './adapter-feed.ts';
import { type ChosenAdapter, RegistryLease } from './adapter-lease.ts';
import { AdapterRecords } from './adapter-records.ts';
import { AdapterResidency, type ResidencyOptions } from './adapter-residency.ts';
import { activeChoice, baseOf, type ModelSide } from './model-side.ts';
import { PendingWork } from './pending-work.ts';
import {
  asBrokenFiles,
  badWeight,
  checkNames,
  checkUnchanged,
  chosenTwice,
  idTaken,
  modelGone,
  notNow,
  otherModel,
  tooMany,
  unknownAdapter,
  unknownModel,
} from './registry-errors.ts';
import type {
  AdapterChange,
  AdapterChoice,
  AdapterDirectory,
  AdapterLease,
  LoadAdapterRequest,
  ServedAdapter,
} from './served-adapter.ts';

/** Reads adapters from disk; `AdapterLoader` is the real one. */
export interface AdapterReader {
  load(source: string, base: AdapterBase): Promise<LoadedAdapter>;
}

export interface AdapterRegistryOptions extends AdapterPlaces {
  readonly reader: AdapterReader;
  readonly store: AdapterStore;
  /** Default: nothing is fetched. */
  readonly sources?: SourceFetcher;
  readonly residency: ResidencyOptions;
  /** Adapters registered, those of models out of service included. */
  readonly maxAdapters: number;
  readonly onWarning?: (warning: string, adapterId?: string) => void;
  /** Once aborted, the feeds of changes end. */
  readonly stopping?: AbortSignal;
}

/** Beyond it a sum of adapters means nothing, and float32 overflows. */
const MAX_WEIGHT = 100;

export class AdapterRegistry implements AdapterDirectory, ModelAdapters {
  private readonly sides = new Map<string, ModelSide>();
  private readonly entries = new Map<string, AdapterEntry>();
  private readonly residency: AdapterResidency;
  private readonly feed = new AdapterFeed();
  /** Loads and activations, by the id of their model. */
  private readonly pending = new PendingWork();

  private constructor(
    private readonly options: AdapterRegistryOptions,
    private readonly records: AdapterRecords,
  ) {
    this.residency = new AdapterResidency(options.residency);
    options.stopping?.addEventListener('abort', () => this.feed.close(), { once: true });
  }

  /** Reads the registry's file; adapters come into service with their models. */
  static async open(options: AdapterRegistryOptions): Promise<AdapterRegistry> {
    const records = await AdapterRecords.open(options.store, (warning) => options.onWarning?.(warning));
    return new AdapterRegistry(options, records);
  }

  /** Waits for what is being saved, and lets other processes write the registry's file. */
  close(): Promise<void> {
    return this.records.close();
  }

  /** Bytes of adapters in memory. */
  get usedBytes(): number {
    return this.residency.usedBytes;
  }

  list(modelId?: string): readonly ServedAdapter[] {
    return this.entriesOf(modelId);
  }

  find(id: string): ServedAdapter | undefined {
    return this.entries.get(id);
  }

  activeOf(modelId: string): ServedAdapter | undefined {
    return this.sides.get(modelId)?.active;
  }

  changes(modelId: string | null, signal: AbortSignal): AsyncIterable<AdapterChange> {
    return this.feed.listen(modelId, signal);
  }

  acquire(model: ServedModel, choices: readonly AdapterChoice[] | null): AdapterLease {
    const side = this.sideOf(model.id);
    if (side.model !== model) throw modelGone(model.id);
    const chosen = choices === null ? activeChoice(side) : this.choose(side, choices);
    this.residency.checkFits(
      chosen.map(({ entry }) => entry),
      'adapters',
    );
    return new RegistryLease(chosen, this.residency);
  }

  async load(request: LoadAdapterRequest): Promise<ServedAdapter> {
    const { id, modelId, name, source } = request;
    const { sources } = this.options;
    if (sources === undefined || !isHubSource(source)) return this.loadHere(request);
    // what would be refused is not fetched, and a model need not wait for a network to be loaded again
    this.sideOf(modelId);
    this.checkNew(id, name ?? id);
    return this.loadHere({ ...request, source: await sources.fetch('adapter', source) });
  }

  activate(modelId: string, adapterId: string | null): Promise<void> {
    return this.pending.run(modelId, () => this.activateNow(modelId, adapterId));
  }

  async unload(id: string): Promise<boolean> {
    const entry = this.entries.get(id);
    if (entry === undefined) return this.records.forget(id);
    if (entry.status === 'loading') throw notNow(entry, 'id');
    entry.unloading ??= this.drain(entry);
    await entry.unloading;
    return true;
  }

  targetsOf(modelId: string): LoraTargets {
    return this.records.targetsOf(modelId);
  }

  async modelLoaded(model: ServedModel): Promise<void> {
    // an adapter that is still being saved for the model's former self would be taken for one of this model's
    await this.pending.settled(model.id);
    const side: ModelSide = { model, active: undefined, lastAsked: {} };
    const known = this.records.ofModel(model.id);
    const restored = await Promise.all(
      known.map(async (record) => ({ record, entry: await this.restore(model, record) })),
    );
    this.sides.set(model.id, side);
    for (const { record, entry } of restored) {
      // unloaded while its folder was looked for; its id may be another's by now
      if (this.records.get(entry.id) !== record) continue;
      this.entries.set(entry.id, entry);
      this.publish(entry.status === 'failed' ? 'failed' : 'loaded', entry);
    }
    const active = this.entries.get(this.records.activeOf(model.id) ?? '');
    if (active?.model === model) this.setActive(side, active);
  }

  modelUnloaded(modelId: string): void {
    const side = this.sides.get(modelId);
    if (side === undefined) return;
    this.sides.delete(modelId);
    for (const entry of this.entriesOf(modelId)) {
      this.entries.delete(entry.id);
      // the load of it finds out by itself
      if (entry.status === 'loading') continue;
      entry.status = 'draining';
      void this.residency.retire(entry);
      this.publish('unloaded', entry);
    }
  }

  private loadHere(request: LoadAdapterRequest): Promise<ServedAdapter> {
    return this.pending.run(request.modelId, () => this.loadNow(request));
  }

  private async loadNow({ id, modelId, source, name, activate = false }: LoadAdapterRequest): Promise<ServedAdapter> {
    const side = this.sideOf(modelId);
    const { model } = side;
    this.checkNew(id, name ?? id);
    const bringIn = (one: AdapterEntry): Promise<void> => this.bringIn(one);
    const entry = new AdapterEntry({ id, name: name ?? id, model, source, bringIn });
    this.entries.set(id, entry);
    try {
      await this.takeIn(entry);
      if (activate) await this.saveActive(side, entry);
      else {
        await this.records.save();
        this.enter(entry);
      }
    } catch (error) {
      await this.giveUp(entry);
      throw error;
    }
    return entry;
  }

  private async activateNow(modelId: string, adapterId: string | null): Promise<void> {
    const side = this.sideOf(modelId);
    const entry = adapterId === null ? undefined : this.pick(side, adapterId, 'adapter');
    if (entry?.status === 'failed') throw notNow(entry, 'adapter');
    if (entry === side.active && entry?.id === this.records.activeOf(modelId)) return;
    await this.saveActive(side, entry);
  }

  /** From its files into memory. */
  private async takeIn(entry: AdapterEntry): Promise<void> {
    const { facts, weights } = await this.options.reader.load(entry.source, baseOf(entry.model));
    entry.facts = facts;
    this.residency.checkFits([entry], 'source');
    this.checkPresent(entry);
    await this.residency.admit(entry, () => entry.model.engine.addAdapter(entry.id, weights));
    this.checkPresent(entry);
    this.records.add(entry.stored);
  }

  /** From memory into service. */
  private enter(entry: AdapterEntry): void {
    this.checkPresent(entry);
    entry.status = 'ready';
    this.publish('loaded', entry);
  }

  /** Makes one active, or none, once that is on the disk; where it cannot be saved the model goes on as it was. */
  private async saveActive(side: ModelSide, entry: AdapterEntry | undefined): Promise<void> {
    const asked = {};
    side.lastAsked = asked;
    this.records.setActive(side.model.id, entry?.id);
    const isServed = (): boolean => this.sides.get(side.model.id) === side;
    try {
      await this.records.save();
      if (entry?.status === 'loading') this.enter(entry);
      if (entry?.status === 'draining' && isServed()) throw notNow(entry, 'adapter');
    } catch (error) {
      // else a later activation is on its way
      if (side.lastAsked === asked) this.records.setActive(side.model.id, side.active?.id);
      throw error;
    }
    // a model that was unloaded meanwhile has it when it comes back
    if (isServed()) this.setActive(side, entry);
  }

  /** Leaves nothing of an adapter that could not be loaded. */
  private async giveUp(entry: AdapterEntry): Promise<void> {
    entry.status = 'failed';
    await this.residency.retire(entry);
    if (this.entries.get(entry.id) === entry) this.entries.delete(entry.id);
    if (this.records.get(entry.id) === entry.stored) {
      this.records.remove(entry.id);
      // where the disk is what failed, the next save that succeeds does it
      await this.records.save().catch(() => {});
    }
    this.publish('failed', entry);
  }

  private async drain(entry: AdapterEntry): Promise<void> {
    entry.status = 'draining';
    const side = this.sides.get(entry.model.id);
    if (side?.active === entry) this.setActive(side, undefined);
    // a restart from now on does without it
    const wasAsked = this.records.activeOf(entry.model.id) === entry.id;
    this.records.remove(entry.id);
    // an activation of it that is on its way to the disk will be refused
    if (wasAsked) this.records.setActive(entry.model.id, side?.active?.id);
    await entry.idle();
    await this.residency.retire(entry);
    const present = this.entries.get(entry.id) === entry;
    if (present) this.entries.delete(entry.id);
    try {
      await this.records.save();
    } finally {
      // gone it is, whether the file says so or has to wait for the next save
      if (present) this.publish('unloaded', entry);
    }
  }

  /** An adapter that the file remembers; its factors are read when a request names it. */
  private async restore(model: ServedModel, { id, name, source, facts }: StoredAdapter): Promise<AdapterEntry> {
    const entry = new AdapterEntry({ id, name, model, source, bringIn: (one) => this.bringIn(one) });
    entry.facts = facts;
    entry.status = 'ready';
    try {
      await resolveAdapterFolder(source, this.options);
    } catch (error) {
      // whatever it is, the model comes into service
      entry.status = 'failed';
      const reason = error instanceof Error ? error.message : String(error);
      this.options.onWarning?.(`The adapter is not in service: ${reason}`, id);
    }
    return entry;
  }

  /** Brings an adapter in that was loaded before. */
  private async bringIn(entry: AdapterEntry): Promise<void> {
    const { model } = entry;
    const weights = await this.readAgain(entry);
    if (this.sides.get(model.id)?.model !== model) throw modelGone(model.id);
    await model.engine.addAdapter(entry.id, weights);
    this.noteFiles(entry, 'ready');
  }

  /** Reads an adapter's files again, which must be those that were loaded. */
  private async readAgain(entry: AdapterEntry): Promise<LoraWeights> {
    try {
      const { facts, weights } = await this.options.reader.load(entry.source, baseOf(entry.model));
      checkUnchanged(entry, facts);
      return weights;
    } catch (cause) {
      const error = asBrokenFiles(entry.id, cause);
      if (error === undefined) throw cause;
      this.noteFiles(entry, 'failed');
      throw error;
    }
  }

  private noteFiles(entry: AdapterEntry, status: 'ready' | 'failed'): void {
    if (entry.status === status || entry.status === 'draining') return;
    entry.status = status;
    this.publish(status === 'failed' ? 'failed' : 'loaded', entry);
  }

  private setActive(side: ModelSide, entry: AdapterEntry | undefined): void {
    const before = side.active;
    if (entry === before) return;
    side.active = entry;
    if (entry !== undefined) this.publish('activated', entry);
    else if (before !== undefined) this.publish('deactivated', before);
  }

  private choose(side: ModelSide, choices: readonly AdapterChoice[]): readonly ChosenAdapter[] {
    const seen = new Set<string>();
    return choices.map(({ id, weight }) => {
      const entry = this.pick(side, id, 'adapters');
      if (seen.has(id)) throw chosenTwice(id);
      seen.add(id);
      const amount = weight ?? 1;
      if (!(Math.abs(amount) <= MAX_WEIGHT)) throw badWeight(id, MAX_WEIGHT, amount);
      return { entry, weight: amount };
    });
  }

  /** The adapter of that id if the model's requests may have it. */
  private pick(side: ModelSide, id: string, argument: string): AdapterEntry {
    const entry = this.entries.get(id);
    if (entry === undefined) {
      throw unknownAdapter(
        side.model.id,
        this.entriesOf(side.model.id).map((one) => one.id),
        { id, argument },
      );
    }
    if (entry.model !== side.model) throw otherModel(side.model.id, entry, argument);
    if (entry.status === 'loading' || entry.status === 'draining') throw notNow(entry, argument);
    return entry;
  }

  private checkNew(id: string, name: string): void {
    checkNames(id, name);
    const owner = this.entries.get(id)?.model.id ?? this.records.get(id)?.model;
    if (owner !== undefined) throw idTaken(id, owner);
    const { maxAdapters } = this.options;
    if (new Set([...this.entries.keys(), ...this.records.ids]).size >= maxAdapters) throw tooMany(maxAdapters);
  }

  /** The model may be unloaded while an adapter of it is being loaded. */
  private checkPresent(entry: AdapterEntry): void {
    if (this.entries.get(entry.id) !== entry) throw modelGone(entry.model.id);
  }

  private sideOf(modelId: string): ModelSide {
    const side = this.sides.get(modelId);
    if (side !== undefined) return side;
    throw unknownModel(modelId, [...this.sides.keys()]);
  }

  private entriesOf(modelId: string | undefined): readonly AdapterEntry[] {
    const all = [...this.entries.values()];
    return modelId === undefined ? all : all.filter(({ model }) => model.id === modelId);
  }

  private publish(change: AdapterChange['change'], adapter: AdapterEntry): void {
    this.feed.publish({ change, model: adapter.model, adapter: adapter.snapshot() });
  }
}
