/** Runs T5's encoder and its decoder as a loop of steps. */
import { type LoopBatch, rowSources, sourceMask } from '../decode-loop/cache-feeds.ts';
import type { LoopFeeds } from '../decode-loop/loop-feeds.ts';
import { LoopRunner } from '../decode-loop/loop-runner.ts';
import type { EmbeddingLayer } from '../engine/engine-client.ts';
import type { DecodingStart, Prefill } from '../engine/model-runner.ts';
import { stateCache } from '../graph/cached-tensors.ts';
import type { AdapterCombination } from '../lora/adapter-combination.ts';
import type { AdapterMemory } from '../lora/adapter-memory.ts';
import type { AdaptableSession } from '../models/adapting-runner.ts';
import type { EmbeddingTable } from '../models/embedding-table.ts';
import type { T5Config } from '../models/model-config.ts';
import { SOURCES_AT_ONCE, SourceBatches } from './source-batches.ts';
import { SourceEncoder } from './source-encoder.ts';

export interface T5LoopRunnerParts {
  readonly encoder: AdaptableSession;
  readonly decoder: AdaptableSession;
  readonly table: EmbeddingTable;
  readonly memory: AdapterMemory;
  /** Of each session. */
  readonly threadCount: number;
}

export class T5LoopRunner extends LoopRunner {
  protected readonly adaptsSources = true;
  override readonly promptsAtOnce = SOURCES_AT_ONCE;
  private readonly encoder: SourceEncoder;
  private readonly batches: SourceBatches;

  constructor(
    private readonly t5: T5Config,
    parts: T5LoopRunnerParts,
  ) {
    const source = stateCache(t5);
    const encoder = new SourceEncoder(t5, { ...parts, source });
    const cache = { layerCount: t5.decoderLayerCount, heads: t5, source };
    super(t5, { ...parts, cache, runFactors: encoder.factors, others: [] });
    this.encoder = encoder;
    this.batches = new SourceBatches(encoder);
  }

  startOf(): DecodingStart {
    const { decoderStartTokenId } = this.t5;
    return { tokenId: decoderStartTokenId, history: [decoderStartTokenId] };
  }

  prefill(tokenIds: readonly number[], adapters: AdapterCombination): Prefill {
    // the encoder sees the whole source at once
    return { nextTokenCount: tokenIds.length, advance: () => this.batches.encode(tokenIds, adapters) };
  }

  embed(tokenIds: readonly number[], layer: EmbeddingLayer): Promise<Float32Array> {
    return this.encoder.embed(tokenIds, layer);
  }

  override async dispose(): Promise<void> {
    await this.encoder.dispose();
    await super.dispose();
  }

  protected familyFeeds(batch: LoopBatch): LoopFeeds {
    return {
      row_sources: rowSources(batch),
      source_mask: sourceMask(batch, ({ request }) => request.promptTokenIds.length),
    };
  }
}
