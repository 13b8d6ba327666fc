/**
 * What the runners of all families share: the decoder's session over rows of a batch, the adapters that rows name, the
 * table of word embeddings and the output head. Which tokens and positions rows see is the runners' own.
 */

import type { EmbeddingLayer } from '../engine/engine-client.ts';
import { type CacheShape, KvCache } from '../engine/kv-cache.ts';
import type {
  DecodingStart,
  ModelRunner,
  Prefill,
  Preparation,
  StepCaches,
  StepScores,
} from '../engine/model-runner.ts';
import type { StepPlan } from '../engine/step-plan.ts';
import type { HeadShape } from '../graph/attention.ts';
import type { AdaptedModule } from '../graph/lora.ts';
import { ROW_ZEROS, rowZeros } from '../graph/quantized-linear.ts';
import type { AdapterCombination } from '../lora/adapter-combination.ts';
import type { AdapterMemory } from '../lora/adapter-memory.ts';
import type { AdapterUnits } from '../lora/adapter-units.ts';
import type { LoraWeights, WeightedAdapter } from '../lora/lora-weights.ts';
import { routeRows } from '../lora/row-routing.ts';
import type { RunFactors } from '../lora/run-factors.ts';
import { UnitStack } from '../lora/unit-stack.ts';
import { WorkerAdapters } from '../lora/worker-adapters.ts';
import type { RowHeads } from '../output-head/row-heads.ts';
import type { Session, SessionOutputs } from '../session.ts';
import { intTensor, longTensor, type TensorValue } from '../tensor.ts';
import type { EmbeddingTable } from './embedding-table.ts';
import type { ModelConfig } from './model-config.ts';

/** A session and which of its matrices take adapters. */
export interface AdaptableSession {
  readonly session: Session;
  readonly adapted: readonly AdaptedModule[];
}

export interface BatchRunnerParts {
  readonly decoder: AdaptableSession;
  readonly heads: RowHeads;
  readonly table: EmbeddingTable;
  readonly memory: AdapterMemory;
  /** Of each session. */
  readonly threadCount: number;
}

interface BatchShape extends CacheShape {
  /** Factors of runs that serve one request each, prepared with those of the rows. */
  readonly runFactors?: RunFactors;
}

/** Rows of a run of the decoder: singles, then those of each group. */
export interface DecoderRows {
  readonly singleCount: number;
  /** Rows of each group. */
  readonly groups: readonly number[];
  /** By row. */
  readonly adapters: readonly AdapterCombination[];
}

/** Queries that each group is padded to: a single one would take another kernel. */
export function queriesOf(groups: readonly number[]): number {
  return Math.max(2, ...groups);
}

export abstract class BatchRunner implements ModelRunner {
  protected readonly table: EmbeddingTable;
  private readonly adapters = new WorkerAdapters();
  private readonly rowFactors: UnitStack;

  constructor(
    private readonly model: ModelConfig,
    private readonly parts: BatchRunnerParts,
    private readonly shape: BatchShape,
  ) {
    this.table = parts.table;
    this.rowFactors = new UnitStack(parts.decoder.adapted, parts.memory.stackBytes);
  }

  abstract startOf(promptTokenIds: readonly number[]): DecodingStart;
  abstract prefill(tokenIds: readonly number[], adapters: AdapterCombination): Prefill;
  abstract decode(plan: StepPlan, caches: StepCaches): Promise<StepScores>;
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
    return new KvCache(this.shape);
  }

  get adapterBytes(): number {
    const { runFactors } = this.shape;
    const { heads } = this.parts;
    return (runFactors?.byteLength ?? 0) + this.rowFactors.byteLength + heads.adaptedBytes;
  }

  addAdapter(key: string, weights: LoraWeights): void {
    this.dropAdapter(key);
    this.adapters.add(key, weights);
  }

  dropAdapter(key: string): void {
    const adapter = this.adapters.drop(key);
    if (adapter === undefined) return;
    this.shape.runFactors?.forget(adapter);
    this.rowFactors.forget(adapter);
    this.rowFactors.trim();
    this.parts.heads.forget(adapter);
  }

  combine(adapters: readonly WeightedAdapter[]): AdapterCombination {
    return this.adapters.combine(adapters);
  }

  prepare(adapters: AdapterCombination, running: readonly AdapterCombination[]): Preparation {
    const { runFactors } = this.shape;
    const { heads, memory } = this.parts;
    const own = adaptersOf([adapters]);
    const others = adaptersOf(running);
    if (!this.rowFactors.hasRoom(own, others)) return 'no room';
    for (let written = 0; written < memory.pieceBytes; ) {
      const bytes =
        runFactors?.prepare(adapters) || this.rowFactors.prepare(own, others) || heads.prepare(adapters, running);
      if (bytes === 0) return 'ready';
      written += bytes;
    }
    return 'more to do';
  }

  /** Runs the decoder over rows; `feeds` are the inputs that are the family's own. */
  protected async runRows(
    feeds: Readonly<Record<string, TensorValue>>,
    rows: DecoderRows,
    outputNames: readonly string[],
  ): Promise<SessionOutputs> {
    const { singleCount, groups, adapters } = rows;
    const all: Record<string, TensorValue> = { ...feeds };
    all.section_sizes = longTensor([singleCount, adapters.length - singleCount]);
    all[ROW_ZEROS] = rowZeros(adapters.length);
    feedGroups(all, groups, this.shape.heads);
    this.feedAdapters(all, adapters);
    return this.parts.decoder.session.run(all, outputNames);
  }

  /** Runs one step of the plan's rows and scores them. */
  protected async runStep(plan: StepPlan, feeds: Readonly<Record<string, TensorValue>>): Promise<StepScores> {
    const rows = {
      singleCount: plan.singles.length,
      groups: plan.groups.map(({ paths }) => paths.rowCount),
      adapters: adaptersByRow(plan),
    };
    const outputs = await this.runRows(feeds, rows, ['new_cache', 'states']);
    const newCache = outputs.floats('new_cache');
    const scores = await this.parts.heads.score(outputs.floats('states'), plan.needs, rows.adapters);
    return { scores, newCache, newCacheStride: newCache.length / plan.rowCount };
  }

  async dispose(): Promise<void> {
    await this.parts.decoder.session.dispose();
    await this.parts.heads.dispose();
  }

  private feedAdapters(feeds: Record<string, TensorValue>, rows: readonly AdapterCombination[]): void {
    const { decoder, threadCount } = this.parts;
    if (decoder.adapted.length === 0) return;
    const range = this.rowFactors.arrange(adaptersOf(rows));
    const placesOf = (adapter: AdapterUnits): readonly number[] => this.rowFactors.placesOf(adapter);
    Object.assign(feeds, routeRows(rows, { range, placesOf, threadCount }));
    this.rowFactors.feed(feeds, range);
  }
}

/** The tokens that the rows of a step read, in the order of the rows. */
export function inputTokens({ singles, groups }: StepPlan): readonly number[] {
  return [...singles, ...groups].flatMap((request) => [...request.inputTokens]);
}

function adaptersOf(combinations: readonly AdapterCombination[]): ReadonlySet<AdapterUnits> {
  return new Set(combinations.flatMap(({ parts }) => parts.map(({ adapter }) => adapter)));
}

/** The adapters of each row of a step. */
function adaptersByRow({ singles, groups }: StepPlan): readonly AdapterCombination[] {
  return [...singles, ...groups].flatMap(({ adapters, paths }) =>
    Array.from({ length: paths.rowCount }, () => adapters),
  );
}

/** The inputs of attention.ts that say which rows are whose: rows counted from the first group's first. */
function feedGroups(
  feeds: Record<string, TensorValue>,
  groups: readonly number[],
  { headCount, headSize, keyValueHeadCount = headCount }: HeadShape,
): void {
  const queries = queriesOf(groups);
  const rows = new Int32Array(groups.length * queries);
  const places: number[] = [];
  for (const [group, rowCount] of groups.entries()) {
    const first = places.length;
    for (let query = 0; query < queries; query++) {
      if (query < rowCount) places.push(group * queries + query);
      rows[group * queries + query] = query < rowCount ? first + query : first;
    }
  }
  feeds['groups.rows'] = intTensor(rows, [groups.length, queries]);
  feeds['groups.places'] = intTensor(Int32Array.from(places), [places.length]);
  const shared = headCount / keyValueHeadCount;
  feeds['groups.split_shape'] = longTensor([groups.length, keyValueHeadCount, shared, queries, headSize]);
  feeds['groups.joined_shape'] = longTensor([groups.length, keyValueHeadCount, shared * queries, headSize]);
}
