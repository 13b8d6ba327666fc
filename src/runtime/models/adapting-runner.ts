/** What the runners of all families share whatever they run: the adapters that rows name, and what is kept of them. */

import type { EmbeddingLayer } from '../engine/engine-client.ts';
import { type CacheShape, KvCache } from '../engine/kv-cache.ts';
import type {
  DecodedSteps,
  DecodingStart,
  ModelRunner,
  Prefill,
  Preparation,
  StepCaches,
} from '../engine/model-runner.ts';
import type { StepPlan } from '../engine/step-plan.ts';
import { type AdaptedModule, ROW_ROUTES, SOURCE_ROUTES } from '../graph/lora.ts';
import type { AdapterCombination } from '../lora/adapter-combination.ts';
import type { AdapterMemory } from '../lora/adapter-memory.ts';
import type { AdapterUnits } from '../lora/adapter-units.ts';
import type { LoraWeights, WeightedAdapter } from '../lora/lora-weights.ts';
import { routeRows } from '../lora/row-routing.ts';
import type { RunFactors } from '../lora/run-factors.ts';
import { UnitStack } from '../lora/unit-stack.ts';
import { WorkerAdapters } from '../lora/worker-adapters.ts';
import type { Session } from '../session.ts';
import type { TensorValue } from '../tensor.ts';
import type { ModelConfig } from './model-config.ts';

/** A session and which of its matrices take adapters. */
export interface AdaptableSession {
  readonly session: Session;
  readonly adapted: readonly AdaptedModule[];
}

/** A part of a model beside the decoder's graph that adapters may change. */
export interface AdaptedPart {
  /** Bytes of what is kept for adapters. */
  readonly adaptedBytes: number;
  /** Writes one piece of what rows of `combination` need beside `running`; returns its bytes, 0 when nothing is missing. */
  prepare(combination: AdapterCombination, running: readonly AdapterCombination[]): number;
  /** Lets go of an adapter that no row uses any more. */
  forget(adapter: AdapterUnits): void;
  dispose(): Promise<void>;
}

export interface AdaptingRunnerParts {
  readonly decoder: AdaptableSession;
  readonly memory: AdapterMemory;
  /** Of each session. */
  readonly threadCount: number;
  readonly cache: CacheShape;
  /** Factors of runs that serve one request each, prepared with those of the rows. */
  readonly runFactors?: RunFactors | undefined;
  readonly others: readonly AdaptedPart[];
}

export abstract class AdaptingRunner implements ModelRunner {
  private readonly adapters = new WorkerAdapters();
  private readonly rowFactors: UnitStack;

  constructor(
    private readonly model: ModelConfig,
    private readonly adapting: AdaptingRunnerParts,
  ) {
    this.rowFactors = new UnitStack(adapting.decoder.adapted, adapting.memory.stackBytes);
  }

  readonly promptsAtOnce: number = 1;
  abstract mostSteps(rowCount: number): number;
  abstract startOf(promptTokenIds: readonly number[]): DecodingStart;
  abstract prefill(tokenIds: readonly number[], adapters: AdapterCombination): Prefill;
  abstract decode(plan: StepPlan, caches: StepCaches): Promise<DecodedSteps>;
  abstract embed(
    tokenIds: readonly number[],
    layer: EmbeddingLayer,
    between?: () => Promise<void>,
  ): Promise<Float32Array>;

  get eosTokenIds(): readonly number[] {
    return this.model.eosTokenIds;
  }

  get vocabularySize(): number {
    return this.model.vocabularySize;
  }

  createCache(): KvCache {
    return new KvCache(this.adapting.cache);
  }

  get adapterBytes(): number {
    const { runFactors, others } = this.adapting;
    const own = (runFactors?.byteLength ?? 0) + this.rowFactors.byteLength;
    return others.reduce((sum, { adaptedBytes }) => sum + adaptedBytes, own);
  }

  addAdapter(key: string, weights: LoraWeights): void {
    this.dropAdapter(key);
    this.adapters.add(key, weights);
  }

  dropAdapter(key: string): void {
    const adapter = this.adapters.drop(key);
    if (adapter !== undefined) this.forget(adapter);
  }

  /** Lets go of an adapter that no row uses any more. */
  forget(adapter: AdapterUnits): void {
    this.adapting.runFactors?.forget(adapter);
    this.rowFactors.forget(adapter);
    this.rowFactors.trim();
    for (const other of this.adapting.others) other.forget(adapter);
  }

  combine(adapters: readonly WeightedAdapter[]): AdapterCombination {
    return this.adapters.combine(adapters);
  }

  prepare(adapters: AdapterCombination, running: readonly AdapterCombination[]): Preparation {
    const { memory } = this.adapting;
    if (!this.rowFactors.hasRoom(adaptersOf([adapters]), adaptersOf(running))) return 'no room';
    for (let written = 0; written < memory.pieceBytes; ) {
      const bytes = this.preparePiece(adapters, running);
      if (bytes === 0) return 'ready';
      written += bytes;
    }
    return 'more to do';
  }

  /** As AdaptedPart's `prepare`. */
  preparePiece(adapters: AdapterCombination, running: readonly AdapterCombination[]): number {
    const { runFactors, others } = this.adapting;
    const bytes = runFactors?.prepare(adapters) || this.rowFactors.prepare(adaptersOf([adapters]), adaptersOf(running));
    return others.reduce((written, other) => written || other.prepare(adapters, running), bytes);
  }

  async dispose(): Promise<void> {
    await this.adapting.decoder.session.dispose();
    for (const other of this.adapting.others) await other.dispose();
  }

  /**
   * The inputs of RowLora (graph/lora.ts) for rows of these adapters. `sources`: those of the requests that they are of,
   * where the graph reads sources too.
   */
  protected adapterFeeds(
    rows: readonly AdapterCombination[],
    sources?: readonly AdapterCombination[],
  ): Readonly<Record<string, TensorValue>> {
    const { decoder, threadCount } = this.adapting;
    const feeds: Record<string, TensorValue> = {};
    if (decoder.adapted.length === 0) return feeds;
    const range = this.rowFactors.arrange(adaptersOf(rows));
    const placesOf = (adapter: AdapterUnits): readonly number[] => this.rowFactors.placesOf(adapter);
    const routes = { range, placesOf, threadCount };
    Object.assign(feeds, routeRows(rows, routes, ROW_ROUTES));
    if (sources !== undefined) Object.assign(feeds, routeRows(sources, routes, SOURCE_ROUTES));
    this.rowFactors.feed(feeds, range);
    return feeds;
  }
}

function adaptersOf(combinations: readonly AdapterCombination[]): ReadonlySet<AdapterUnits> {
  return new Set(combinations.flatMap(({ parts }) => parts.map(({ adapter }) => adapter)));
}

/** The adapters of each row of a step. */
export function adaptersByRow({ singles, groups }: StepPlan): readonly AdapterCombination[] {
  return [...singles, ...groups].flatMap(({ adapters, paths }) =>
    Array.from({ length: paths.rowCount }, () => adapters),
  );
}
