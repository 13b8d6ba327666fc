/** Runs T5's two graphs: turns a step plan into tensors and the outputs into scores. */

import type { EmbeddingLayer } from '../engine/engine-client.ts';
import type { KvCache, SourceCache } from '../engine/kv-cache.ts';
import type { DecodingStart, Prefill, StepCaches, StepScores } from '../engine/model-runner.ts';
import type { ScheduledRequest } from '../engine/scheduled-request.ts';
import type { StepPlan } from '../engine/step-plan.ts';
import { invariant } from '../errors.ts';
import { ROW_ZEROS, rowZeros } from '../graph/quantized-linear.ts';
import { AdapterCombination } from '../lora/adapter-combination.ts';
import { RunFactors } from '../lora/run-factors.ts';
import {
  type AdaptableSession,
  BatchRunner,
  type BatchRunnerParts,
  inputTokens,
  queriesOf,
} from '../models/batch-runner.ts';
import type { T5Config } from '../models/model-config.ts';
import type { SessionOutputs } from '../session.ts';
import { floatTensor, intTensor, longTensor, type TensorValue } from '../tensor.ts';
import { decoderBuckets, encoderBuckets } from './relative-buckets.ts';
import { t5SourceCache } from './t5-graphs.ts';

/** Sources are padded to a multiple of this: the kernels' widest vector, so that padding leaves every bit as it is. */
const SOURCE_MULTIPLE = 16;
/** Bucket tables of longer sources are made anew each time rather than kept. */
const KEPT_BUCKETS_LENGTH = 512;
/** Longest decoded sequence whose buckets are looked up; beyond it every distance is in the last bucket anyway. */
const DISTANCE_TABLE_LENGTH = 4096;

export interface T5RunnerParts extends BatchRunnerParts {
  readonly encoder: AdaptableSession;
  /** Whether it gives sources in 8 bits. */
  readonly isQuantized: boolean;
}

export class T5Runner extends BatchRunner {
  private readonly encoder: AdaptableSession;
  private readonly sourceFactors: RunFactors;
  private readonly encoderBucketCache = new Map<number, Int32Array>();
  private readonly distanceBuckets: Int32Array;
  /** Of each tensor of a source, by layer. */
  private readonly sourceOutputs: readonly (readonly string[])[];

  constructor(
    private readonly config: T5Config,
    parts: T5RunnerParts,
  ) {
    const runFactors = new RunFactors(parts.encoder.adapted, parts.memory.factorBytes);
    const source = t5SourceCache(config, parts.isQuantized);
    super(config, parts, { layerCount: config.decoderLayerCount, heads: config, source, runFactors });
    this.encoder = parts.encoder;
    this.sourceFactors = runFactors;
    const { relativeBucketCount, relativeMaxDistance } = config;
    this.distanceBuckets = decoderBuckets(DISTANCE_TABLE_LENGTH, relativeBucketCount, relativeMaxDistance);
    this.sourceOutputs = source.map(({ name }) =>
      Array.from({ length: config.decoderLayerCount }, (_, layer) => `${name}.${layer}`),
    );
  }

  startOf(): DecodingStart {
    const { decoderStartTokenId } = this.config;
    return { tokenId: decoderStartTokenId, history: [decoderStartTokenId] };
  }

  prefill(tokenIds: readonly number[], adapters: AdapterCombination): Prefill {
    // the encoder sees the whole source at once
    return { nextTokenCount: tokenIds.length, advance: () => this.encode(tokenIds, adapters) };
  }

  async embed(tokenIds: readonly number[], layer: EmbeddingLayer): Promise<Float32Array> {
    const { hiddenSize } = this.config;
    if (layer === 'input') return this.table.rows(tokenIds);
    const outputs = await this.runEncoder(tokenIds, AdapterCombination.none, ['states']);
    return outputs.floats('states').slice(0, tokenIds.length * hiddenSize);
  }

  async decode(plan: StepPlan, caches: StepCaches): Promise<StepScores> {
    const feeds: Record<string, TensorValue> = {};
    const tokens = inputTokens(plan);
    invariant(tokens.length === plan.rowCount, 'every row has an input token');
    feeds.token_embeddings = floatTensor(this.table.rows(tokens), [tokens.length, this.config.hiddenSize]);
    this.feedSection(feeds, 'singles', plan.singles, caches.singles, 1);
    const queries = queriesOf(plan.groups.map(({ paths }) => paths.rowCount));
    this.feedSection(feeds, 'groups', plan.groups, caches.groups, queries);
    return this.runStep(plan, feeds);
  }

  override async dispose(): Promise<void> {
    await this.encoder.session.dispose();
    await super.dispose();
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
    return this.encoder.session.run(
      {
        ...this.sourceFactors.of(adapters),
        source_embeddings: floatTensor(this.table.rows(tokenIds, length), [1, length, this.config.hiddenSize]),
        relative_buckets: intTensor(this.bucketsOf(length), [length, length]),
        source_mask: floatTensor(mask, [1, 1, 1, length]),
        [ROW_ZEROS]: rowZeros(length),
      },
      outputNames,
    );
  }

  private async encode(tokenIds: readonly number[], adapters: AdapterCombination): Promise<SourceCache> {
    const outputs = await this.runEncoder(tokenIds, adapters, this.sourceOutputs.flat());
    const parts = this.sourceOutputs.map((names) => names.map((name) => outputs.cached(name)));
    return { length: padded(tokenIds.length), parts };
  }

  private bucketsOf(length: number): Int32Array {
    const kept = this.encoderBucketCache.get(length);
    if (kept !== undefined) return kept;
    const buckets = encoderBuckets(length, this.config.relativeBucketCount, this.config.relativeMaxDistance);
    if (length <= KEPT_BUCKETS_LENGTH) this.encoderBucketCache.set(length, buckets);
    return buckets;
  }
}

function padded(length: number): number {
  return Math.ceil(length / SOURCE_MULTIPLE) * SOURCE_MULTIPLE;
}
