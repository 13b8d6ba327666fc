/** Runs a decoder-only model: prompts in chunks, by a graph of their own, then answers in a loop of steps. */
import { type LoopBatch, rowSources, sourceMask } from '../decode-loop/cache-feeds.ts';
import type { LoopFeeds } from '../decode-loop/loop-feeds.ts';
import { LoopRunner } from '../decode-loop/loop-runner.ts';
import type { EmbeddingLayer } from '../engine/engine-client.ts';
import type { DecodingStart, Prefill } from '../engine/model-runner.ts';
import { floatCache } from '../graph/cached-tensors.ts';
import type { AdapterCombination } from '../lora/adapter-combination.ts';
import type { AdapterMemory } from '../lora/adapter-memory.ts';
import type { AdaptableSession, AdaptedPart } from '../models/adapting-runner.ts';
import type { DecoderOnlyConfig, LlamaConfig } from '../models/model-config.ts';
import { longTensor } from '../tensor.ts';
import type { DecoderOnlyRunner } from './decoder-only-runner.ts';
import { rotaryFeeds } from './rotary.ts';

export interface DecoderOnlyLoopRunnerParts {
  readonly decoder: AdaptableSession;
  /** Reads prompts. */
  readonly prompts: DecoderOnlyRunner;
  readonly memory: AdapterMemory;
  /** Of each session. */
  readonly threadCount: number;
}

export class DecoderOnlyLoopRunner extends LoopRunner {
  protected readonly adaptsSources = false;
  private readonly prompts: DecoderOnlyRunner;
  /** Of the first positions: making them takes as long as a step. */
  private rotary = { count: 0, feeds: {} as ReturnType<typeof rotaryFeeds> };

  constructor(
    private readonly decoderOnly: DecoderOnlyConfig,
    parts: DecoderOnlyLoopRunnerParts,
  ) {
    const source = floatCache('source', decoderOnly);
    const cache = { layerCount: decoderOnly.layerCount, heads: decoderOnly, source };
    super(decoderOnly, { ...parts, cache, others: [partOf(parts.prompts)] });
    this.prompts = parts.prompts;
  }

  startOf(promptTokenIds: readonly number[]): DecodingStart {
    return this.prompts.startOf(promptTokenIds);
  }

  prefill(tokenIds: readonly number[], adapters: AdapterCombination): Prefill {
    return this.prompts.prefill(tokenIds, adapters);
  }

  embed(tokenIds: readonly number[], layer: EmbeddingLayer, between?: () => Promise<void>): Promise<Float32Array> {
    return this.prompts.embed(tokenIds, layer, between);
  }

  protected familyFeeds(batch: LoopBatch, stepCount: number): LoopFeeds {
    const { decoderOnly } = this;
    const ends = batch.rows.map(({ request }) => request.request.promptTokenIds.length - 1);
    const feeds: LoopFeeds = {
      row_sources: rowSources(batch),
      source_mask: sourceMask(batch, ({ sourceLength }) => sourceLength),
      prompt_ends: longTensor(ends, [ends.length, 1]),
    };
    if (decoderOnly.family === 'llama') {
      const last = Math.max(
        ...batch.rows.map(({ request, index }, row) => (ends[row] as number) + request.paths.path(index).length),
      );
      Object.assign(feeds, this.rotaryTables(decoderOnly, Math.min(decoderOnly.contextLength, last + stepCount)));
    }
    return feeds;
  }

  /** The tables of the first `count` positions. */
  private rotaryTables(config: LlamaConfig, count: number): LoopFeeds {
    if (count > this.rotary.count) {
      const made = Math.min(config.contextLength, 2 ** Math.ceil(Math.log2(count)));
      this.rotary = { count: made, feeds: rotaryFeeds(config, [...new Array(made).keys()]) };
    }
    const first = Object.entries(this.rotary.feeds).map(([name, { data, dims }]) => {
      const [, width = 0] = dims;
      return [name, { data: data.subarray(0, count * width), dims: [count, width] }] as const;
    });
    return Object.fromEntries(first);
  }
}

/** The reader of prompts as a part that the adapters of rows change too. */
function partOf(prompts: DecoderOnlyRunner): AdaptedPart {
  return {
    get adaptedBytes() {
      return prompts.adapterBytes;
    },
    prepare: (combination, running) => prompts.preparePiece(combination, running),
    forget: (adapter) => prompts.forget(adapter),
    dispose: () => prompts.dispose(),
  };
}
