/** Runs T5's two graphs: turns a step plan into tensors and the outputs into scores. */

import type { EmbeddingLayer } from '../engine/engine-client.ts';
import type { KvCache } from '../engine/kv-cache.ts';
import type { DecodedSteps, DecodingStart, Prefill, StepCaches } from '../engine/model-runner.ts';
import type { ScheduledRequest } from '../engine/scheduled-request.ts';
import type { StepPlan } from '../engine/step-plan.ts';
import { invariant } from '../errors.ts';
import type { AdapterCombination } from '../lora/adapter-combination.ts';
import type { AdaptableSession } from '../models/adapting-runner.ts';
import { BatchRunner, type BatchRunnerParts, inputTokens, queriesOf } from '../models/batch-runner.ts';
import type { T5Config } from '../models/model-config.ts';
import { floatTensor, intTensor, type TensorValue } from '../tensor.ts';
import { decoderBuckets } from './relative-buckets.ts';
import { SourceEncoder } from './source-encoder.ts';
import { t5SourceCache } from './t5-graphs.ts';

/** Longest decoded sequence whose buckets are looked up; beyond it every distance is in the last bucket anyway. */
const DISTANCE_TABLE_LENGTH = 4096;

export interface T5RunnerParts extends BatchRunnerParts {
  readonly encoder: AdaptableSession;
  /** Whether it gives sources in 8 bits. */
  readonly isQuantized: boolean;
}

export class T5Runner extends BatchRunner {
  private readonly encoder: SourceEncoder;
  private readonly distanceBuckets: Int32Array;

  constructor(
    private readonly config: T5Config,
    parts: T5RunnerParts,
  ) {
    const source = t5SourceCache(config, parts.isQuantized);
    const encoder = new SourceEncoder(config, { ...parts, source });
    const { factors: runFactors } = encoder;
    super(config, parts, { layerCount: config.decoderLayerCount, heads: config, source, runFactors });
    this.encoder = encoder;
    const { relativeBucketCount, relativeMaxDistance } = config;
    this.distanceBuckets = decoderBuckets(DISTANCE_TABLE_LENGTH, relativeBucketCount, relativeMaxDistance);
  }

  startOf(): DecodingStart {
    const { decoderStartTokenId } = this.config;
    return { tokenId: decoderStartTokenId, history: [decoderStartTokenId] };
  }

  prefill(tokenIds: readonly number[], adapters: AdapterCombination): Prefill {
    // the encoder sees the whole source at once
    return { nextTokenCount: tokenIds.length, advance: () => this.encoder.encode(tokenIds, adapters) };
  }

  embed(tokenIds: readonly number[], layer: EmbeddingLayer): Promise<Float32Array> {
    return this.encoder.embed(tokenIds, layer);
  }

  async decode(plan: StepPlan, caches: StepCaches): Promise<DecodedSteps> {
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
    await this.encoder.dispose();
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
}
