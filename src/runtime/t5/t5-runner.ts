/** Runs T5's two graphs and its output head: turns a step plan into tensors and the outputs into scores. */

import { KvCache } from '../engine/kv-cache.ts';
import type { EncodedSource, ModelRunner, Preparation, StepScores } from '../engine/model-runner.ts';
import type { ScheduledRequest } from '../engine/scheduled-request.ts';
import type { StepPlan } from '../engine/step-plan.ts';
import { invariant } from '../errors.ts';
import type { AdaptedModule } from '../graph/lora.ts';
import { AdapterCombination } from '../lora/adapter-combination.ts';
import type { AdapterMemory } from '../lora/adapter-memory.ts';
import type { AdapterUnits } from '../lora/adapter-units.ts';
import type { LoraWeights, WeightedAdapter } from '../lora/lora-weights.ts';
import { routeRows } from '../lora/row-routing.ts';
import { RunFactors } from '../lora/run-factors.ts';
import { UnitStack } from '../lora/unit-stack.ts';
import { WorkerAdapters } from '../lora/worker-adapters.ts';
import type { T5Config } from '../models/model-config.ts';
import type { RowHeads } from '../output-head/row-heads.ts';
import type { Session, SessionOutputs } from '../session.ts';
import { floatTensor, intTensor, longTensor, type TensorValue } from '../tensor.ts';
import { decoderBuckets, encoderBuckets } from './relative-buckets.ts';

/** Sources are padded to a multiple of this: the kernels' widest vector, so that padding leaves every bit as it is. */
const SOURCE_MULTIPLE = 16;
/** Bucket tables of longer sources are made anew each time rather than kept. */
const KEPT_BUCKETS_LENGTH = 512;
/** Longest decoded sequence whose buckets are looked up; beyond it every distance is in the last bucket anyway. */
const DISTANCE_TABLE_LENGTH = 4096;

/** A session and which of its matrices take adapters. */
export interface AdaptableSession {
  readonly session: Session;
  readonly adapted: readonly AdaptedModule[];
}

export interface RunnerParts {
  readonly encoder: AdaptableSession;
  readonly decoder: AdaptableSession;
  readonly heads: RowHeads;
  readonly memory: AdapterMemory;
  /** Of each session. */
  readonly threadCount: number;
}

export class T5Runner implements ModelRunner {
  private readonly adapters = new WorkerAdapters();
  private readonly sourceFactors: RunFactors;
  private readonly rowFactors: UnitStack;
  private readonly encoderBucketCache = new Map<number, Int32Array>();
  private readonly distanceBuckets: Int32Array;
  private readonly encoderOutputs: readonly string[];

  constructor(
    private readonly config: T5Config,
    private readonly parts: RunnerParts,
    /** [vocabulary, d] */
    private readonly embeddings: Float32Array,
  ) {
    const { encoder, decoder, memory } = parts;
    this.sourceFactors = new RunFactors(encoder.adapted, memory.factorBytes);
    this.rowFactors = new UnitStack(decoder.adapted, memory.stackBytes);
    const { relativeBucketCount, relativeMaxDistance } = config;
    this.distanceBuckets = decoderBuckets(DISTANCE_TABLE_LENGTH, relativeBucketCount, relativeMaxDistance);
    const layers = Array.from({ length: config.decoderLayerCount }, (_, layer) => layer);
    this.encoderOutputs = layers.flatMap((layer) => [`source_keys.${layer}`, `source_values.${layer}`]);
  }

  get decoderStartTokenId(): number {
    return this.config.decoderStartTokenId;
  }

  get eosTokenIds(): readonly number[] {
    return this.config.eosTokenIds;
  }

  get vocabularySize(): number {
    return this.config.vocabularySize;
  }

  /** Bytes of the copies of adapters that are kept; address space that nothing was written to included. */
  get adapterBytes(): number {
    return this.sourceFactors.byteLength + this.rowFactors.byteLength + this.parts.heads.adaptedBytes;
  }

  createCache(): KvCache {
    const { decoderLayerCount: layerCount, headCount, headSize } = this.config;
    return new KvCache({ layerCount, headCount, headSize });
  }

  addAdapter(key: string, weights: LoraWeights): void {
    this.dropAdapter(key);
    this.adapters.add(key, weights);
  }

  dropAdapter(key: string): void {
    const adapter = this.adapters.drop(key);
    if (adapter === undefined) return;
    this.sourceFactors.forget(adapter);
    this.rowFactors.forget(adapter);
    this.rowFactors.trim();
    this.parts.heads.forget(adapter);
  }

  combine(adapters: readonly WeightedAdapter[]): AdapterCombination {
    return this.adapters.combine(adapters);
  }

  prepare(adapters: AdapterCombination, running: readonly AdapterCombination[]): Preparation {
    const own = adaptersOf([adapters]);
    const others = adaptersOf(running);
    if (!this.rowFactors.hasRoom(own, others)) return 'no room';
    for (let written = 0; written < this.parts.memory.pieceBytes; ) {
      const bytes =
        this.sourceFactors.prepare(adapters) ||
        this.rowFactors.prepare(own, others) ||
        this.parts.heads.prepare(adapters, running);
      if (bytes === 0) return 'ready';
      written += bytes;
    }
    return 'more to do';
  }

  async encode(tokenIds: readonly number[], adapters: AdapterCombination): Promise<EncodedSource> {
    const outputs = await this.runEncoder(tokenIds, adapters, this.encoderOutputs);
    const layers = Array.from({ length: this.config.decoderLayerCount }, (_, layer) => layer);
    return {
      source: {
        length: padded(tokenIds.length),
        offset: 0,
        keys: layers.map((layer) => outputs.floats(`source_keys.${layer}`)),
        values: layers.map((layer) => outputs.floats(`source_values.${layer}`)),
      },
      states: undefined,
    };
  }

  async embed(tokenIds: readonly number[], layer: 'input' | 'encoder'): Promise<Float32Array> {
    const { hiddenSize } = this.config;
    if (layer === 'input') return this.lookUp(tokenIds, tokenIds.length);
    const outputs = await this.runEncoder(tokenIds, AdapterCombination.none, ['states']);
    return outputs.floats('states').slice(0, tokenIds.length * hiddenSize);
  }

  async decode(plan: StepPlan, caches: { readonly singles: KvCache; readonly groups: KvCache }): Promise<StepScores> {
    const feeds: Record<string, TensorValue> = {};
    const tokens = [...plan.singles, ...plan.groups].flatMap((request) => [...request.inputTokens]);
    invariant(tokens.length === plan.rowCount, 'every row has an input token');
    feeds.token_embeddings = floatTensor(this.lookUp(tokens, tokens.length), [tokens.length, this.config.hiddenSize]);
    feeds.section_sizes = longTensor([plan.singles.length, plan.rowCount - plan.singles.length]);
    this.feedSection(feeds, 'singles', plan.singles, caches.singles, 1);
    const queries = Math.max(2, ...plan.groups.map(({ paths }) => paths.rowCount));
    this.feedSection(feeds, 'groups', plan.groups, caches.groups, queries);
    feedGroupRows(feeds, plan.groups, queries);
    const adapters = adaptersByRow(plan);
    this.feedAdapters(feeds, adapters);
    const outputs = await this.parts.decoder.session.run(feeds, ['new_cache', 'states']);
    const newCache = outputs.floats('new_cache');
    const scores = await this.parts.heads.score(outputs.floats('states'), plan.needs, adapters);
    return { scores, newCache, newCacheStride: newCache.length / plan.rowCount };
  }

  async dispose(): Promise<void> {
    await this.parts.encoder.session.dispose();
    await this.parts.decoder.session.dispose();
    await this.parts.heads.dispose();
  }

  /** Fills a section's masks and cache views: bias index [g, q, positions + q], source mask [g, 1, 1, source]. */
  private feedSection(
    feeds: Record<string, TensorValue>,
    name: 'singles' | 'groups',
    requests: readonly ScheduledRequest[],
    cache: KvCache,
    queries: number,
  ): void {
    const { positions, sourceLength } = cache;
    const width = positions + queries;
    const index = new Int32Array(requests.length * queries * width).fill(this.config.relativeBucketCount);
    const mask = new Float32Array(requests.length * sourceLength).fill(Number.NEGATIVE_INFINITY);
    for (const [group, { paths, request }] of requests.entries()) {
      mask.fill(0, group * sourceLength, group * sourceLength + request.promptTokenIds.length);
      for (let query = 0; query < queries; query++) {
        const offset = (group * queries + query) * width;
        // a query that pads the group sees itself alone: its result is not read, but it must not be NaN
        index[offset + positions + query] = this.distanceBuckets[0] as number;
        if (query < paths.rowCount) this.indexPath(index, offset, paths.path(query));
      }
    }
    feeds[`${name}.self_bias_index`] = intTensor(index, [requests.length, queries, width]);
    feeds[`${name}.self_widths`] = longTensor([positions, queries]);
    feeds[`${name}.source_mask`] = floatTensor(mask, [requests.length, 1, 1, sourceLength]);
    cache.feed(feeds, name, requests.length);
  }

  private feedAdapters(feeds: Record<string, TensorValue>, rows: readonly AdapterCombination[]): void {
    if (this.parts.decoder.adapted.length === 0) return;
    const range = this.rowFactors.arrange(adaptersOf(rows));
    const { threadCount } = this.parts;
    const placesOf = (adapter: AdapterUnits): readonly number[] => this.rowFactors.placesOf(adapter);
    Object.assign(feeds, routeRows(rows, { range, placesOf, threadCount }));
    this.rowFactors.feed(feeds, range);
  }

  private indexPath(index: Int32Array, offset: number, path: readonly number[]): void {
    const last = DISTANCE_TABLE_LENGTH - 1;
    for (const [position, entry] of path.entries()) {
      const distance = Math.min(path.length - position, last);
      index[offset + entry] = this.distanceBuckets[distance] as number;
    }
  }

  private async runEncoder(
    tokenIds: readonly number[],
    adapters: AdapterCombination,
    outputNames: readonly string[],
  ): Promise<SessionOutputs> {
    this.sourceFactors.evict(new Set([adapters]));
    const length = padded(tokenIds.length);
    const mask = new Float32Array(length).fill(Number.NEGATIVE_INFINITY).fill(0, 0, tokenIds.length);
    return this.parts.encoder.session.run(
      {
        ...this.sourceFactors.of(adapters),
        source_embeddings: floatTensor(this.lookUp(tokenIds, length), [1, length, this.config.hiddenSize]),
        relative_buckets: intTensor(this.bucketsOf(length), [length, length]),
        source_mask: floatTensor(mask, [1, 1, 1, length]),
      },
      outputNames,
    );
  }

  private bucketsOf(length: number): Int32Array {
    const kept = this.encoderBucketCache.get(length);
    if (kept !== undefined) return kept;
    const buckets = encoderBuckets(length, this.config.relativeBucketCount, this.config.relativeMaxDistance);
    if (length <= KEPT_BUCKETS_LENGTH) this.encoderBucketCache.set(length, buckets);
    return buckets;
  }

  /** Rows of the embedding table, [length, d]; rows beyond the ids stay zero. */
  private lookUp(tokenIds: readonly number[], length: number): Float32Array {
    const { hiddenSize } = this.config;
    const rows = new Float32Array(length * hiddenSize);
    for (const [row, id] of tokenIds.entries()) {
      rows.set(this.embeddings.subarray(id * hiddenSize, (id + 1) * hiddenSize), row * hiddenSize);
    }
    return rows;
  }
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

function padded(length: number): number {
  return Math.ceil(length / SOURCE_MULTIPLE) * SOURCE_MULTIPLE;
}

/** groups.rows [g, q]: the row, counted from the first group's first, of each query; groups.places [rows]: the way back. */
function feedGroupRows(feeds: Record<string, TensorValue>, groups: readonly ScheduledRequest[], queries: number): void {
  const rows = new Int32Array(groups.length * queries);
  const places: number[] = [];
  for (const [group, { paths }] of groups.entries()) {
    const first = places.length;
    for (let query = 0; query < queries; query++) {
      if (query < paths.rowCount) places.push(group * queries + query);
      rows[group * queries + query] = query < paths.rowCount ? first + query : first;
    }
  }
  feeds['groups.rows'] = intTensor(rows, [groups.length, queries]);
  feeds['groups.places'] = intTensor(Int32Array.from(places), [places.length]);
}
