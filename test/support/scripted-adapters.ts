/** Adapters whose files are numbers: a reader, and a host that says which of them it would answer with. */
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type AdapterReader, AdapterRegistry } from '../../src/runtime/adapters/adapter-registry.ts';
import { RuntimeError } from '../../src/runtime/errors.ts';
import type { LoraWeights, WeightedAdapter } from '../../src/runtime/lora/lora-weights.ts';
import type { ModelAdapters, ModelDirectory, ServedModel } from '../../src/runtime/models/served-model.ts';
import type { LoadedAdapter } from '../../src/runtime/peft/read-adapter.ts';
import { AdapterStore, type StoredAdapters } from '../../src/storage/adapter-store.ts';
import { ManualClock } from './manual-clock.ts';
import { directoryOf, ScriptedEngine } from './scripted-engine.ts';
import { temporaryFolder } from './tiny-model.ts';

/** What a registry of models tells when there are no adapters. */
export const noAdapters: ModelAdapters = {
  targetsOf: () => ({ modules: new Set(), gains: new Set() }),
  modelLoaded: async () => {},
  modelUnloaded: () => {},
};

interface ScriptedFiles {
  readonly memoryBytes: number;
  /** What the factors say when they are asked whose they are. */
  readonly mark: number;
  /** Default: LORA. */
  readonly method?: 'LORA' | 'DORA';
}

function weightsOf(mark: number): LoraWeights {
  const module = 'decoder.block.0.layer.0.SelfAttention.q';
  const factors = { module, rank: 1, a: Float32Array.of(mark), b: Float32Array.of(1), gainChange: undefined };
  return { factors: [factors], head: undefined };
}

/** Reads what was written to it; a folder of the same name must be there when a registry is opened again. */
export class ScriptedReader implements AdapterReader {
  /** Sources, in the order in which they were read. */
  readonly reads: string[] = [];
  private readonly files = new Map<string, ScriptedFiles>();
  private gate: Promise<void> = Promise.resolve();

  constructor(readonly adaptersDir: string) {}

  async write(name: string, files: ScriptedFiles): Promise<void> {
    await mkdir(join(this.adaptersDir, name), { recursive: true });
    this.files.set(`dir:${name}`, files);
  }

  remove(name: string): void {
    this.files.delete(`dir:${name}`);
  }

  /** Holds back what is read from now on until the returned function is called. */
  pause(): () => void {
    let open = (): void => {};
    this.gate = new Promise((resolve) => {
      open = resolve;
    });
    return open;
  }

  async load(source: string): Promise<LoadedAdapter> {
    this.reads.push(source);
    const { gate } = this;
    await new Promise(setImmediate);
    await gate;
    const files = this.files.get(source);
    if (files === undefined) throw new RuntimeError('NOT_FOUND', `Expected a folder, ${source} came.`);
    const { memoryBytes, mark, method = 'LORA' } = files;
    const facts = {
      method,
      rank: 1,
      alpha: 2,
      targetModules: ['q'],
      modules: [`module.${mark}`],
      parameterCount: 2,
      sizeBytes: 8,
      memoryBytes,
      sha256: `sha-${mark}`,
      configSha256: 'config',
      report: { matchedTensors: ['a', 'b'], unmatchedTensors: [], zeroTensors: [], warnings: [] },
    };
    return { facts, weights: weightsOf(mark) };
  }
}

/** The registry's file, written when the test lets it. */
export class HeldStore extends AdapterStore {
  private gate: Promise<void> = Promise.resolve();
  private begun = (): void => {};

  /** Holds the saves from now on until `resume`; `held` resolves when the first of them waits. */
  hold(): { readonly held: Promise<void>; readonly resume: () => void } {
    let resume = (): void => {};
    this.gate = new Promise((resolve) => {
      resume = resolve;
    });
    const held = new Promise<void>((resolve) => {
      this.begun = resolve;
    });
    return { held, resume };
  }

  override async save(state: StoredAdapters): Promise<void> {
    this.begun();
    await this.gate;
    await super.save(state);
  }
}

/** The marks of the factors by which a model would answer now. */
export function marksOf(model: ServedModel, weighted: readonly WeightedAdapter[]): readonly number[] {
  const { engine } = model;
  assert.ok(engine instanceof ScriptedEngine);
  return weighted.map(({ key }) => {
    const mark = engine.adapters.get(key)?.factors[0]?.a[0];
    assert.ok(mark !== undefined, `${key} is not in memory`);
    return mark;
  });
}

export interface ScriptedAdapters {
  readonly registry: AdapterRegistry;
  readonly reader: ScriptedReader;
  readonly store: HeldStore;
  readonly clock: ManualClock;
  readonly warnings: string[];
  readonly dataDir: string;
  readonly stopping: AbortController;
}

export interface ScriptedOptions {
  readonly budgetBytes?: number;
  readonly maxWaiting?: number;
  readonly maxAdapters?: number;
  /** Of a registry before: its files. */
  readonly reader?: ScriptedReader;
  readonly dataDir?: string;
}

export async function openAdapters(t: TestContext, options: ScriptedOptions = {}): Promise<ScriptedAdapters> {
  const { budgetBytes = 100, maxWaiting = 10, maxAdapters = 1000 } = options;
  const dataDir = options.dataDir ?? (await temporaryFolder(t));
  const reader = options.reader ?? new ScriptedReader(await temporaryFolder(t));
  const clock = new ManualClock();
  const store = new HeldStore(dataDir);
  const warnings: string[] = [];
  const stopping = new AbortController();
  const registry = await AdapterRegistry.open({
    reader,
    store,
    adaptersDir: reader.adaptersDir,
    residency: { budgetBytes, maxWaiting, waitMs: 1000, clock },
    maxAdapters,
    onWarning: (warning) => warnings.push(warning),
    stopping: stopping.signal,
  });
  t.after(() => registry.close());
  return { registry, reader, store, clock, warnings, dataDir, stopping };
}

/** The adapters of models that have none; nothing is written. */
export async function withoutAdapters(models: ModelDirectory): Promise<AdapterRegistry> {
  const nowhere = join(tmpdir(), 'gistql-without-adapters');
  const registry = await AdapterRegistry.open({
    reader: new ScriptedReader(nowhere),
    store: new AdapterStore(nowhere),
    adaptersDir: nowhere,
    residency: { budgetBytes: 0, maxWaiting: 0, waitMs: 0, clock: new ManualClock() },
    maxAdapters: 0,
  });
  for (const model of models.list()) await registry.modelLoaded(model);
  return registry;
}

/** A model of that id, with an engine that answers nothing but keeps adapters. */
export async function scriptedModel(id: string): Promise<ServedModel> {
  return (await directoryOf(new ScriptedEngine({ sequences: [[1]] }), { id })).get();
}
