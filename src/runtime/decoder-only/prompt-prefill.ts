/** A prompt on its way into the cache: read chunk by chunk, each chunk seeing those before it. */
import type { CacheData } from '../engine/cache-plane.ts';
import type { SourceCache } from '../engine/kv-cache.ts';
import type { Prefill } from '../engine/model-runner.ts';
import type { AdapterCombination } from '../lora/adapter-combination.ts';
import type { DecoderOnlyConfig } from '../models/model-config.ts';

/** Keys and values of a run's rows, [rows, layers·2·KV·dk]. */
export type RunChunk = (chunk: PromptChunk) => Promise<Float32Array>;

export interface PromptChunk {
  readonly tokenIds: readonly number[];
  /** What was read before it. */
  readonly past: SourceCache;
  readonly adapters: AdapterCombination;
}

/** Tokens of a chunk: enough rows that products are bound by arithmetic, few enough that a step is not held up long. */
export const CHUNK_TOKENS = 256;

type CacheSizes = Pick<DecoderOnlyConfig, 'layerCount' | 'keyValueHeadCount' | 'headSize'>;

export function emptyPast({ layerCount }: CacheSizes): SourceCache {
  const none = Array.from({ length: layerCount }, () => new Float32Array(0));
  return { length: 0, parts: [none, none] };
}

export class PromptPrefill implements Prefill {
  private past: SourceCache;

  /** All but the last token: that one is what the first step of decoding reads. */
  private readonly tokenIds: readonly number[];

  constructor(
    private readonly sizes: CacheSizes,
    promptTokenIds: readonly number[],
    private readonly adapters: AdapterCombination,
    private readonly runChunk: RunChunk,
  ) {
    this.tokenIds = promptTokenIds.slice(0, -1);
    this.past = emptyPast(sizes);
  }

  get nextTokenCount(): number {
    return Math.min(CHUNK_TOKENS, this.tokenIds.length - this.past.length);
  }

  async advance(): Promise<SourceCache | undefined> {
    const start = this.past.length;
    const tokenIds = this.tokenIds.slice(start, start + this.nextTokenCount);
    if (tokenIds.length > 0) {
      const rows = await this.runChunk({ tokenIds, past: this.past, adapters: this.adapters });
      this.past = appended(this.sizes, this.past, rows, tokenIds.length);
    }
    return this.past.length === this.tokenIds.length ? this.past : undefined;
  }
}

/** `past` and the keys and values of `count` rows behind it. */
export function appended(sizes: CacheSizes, past: SourceCache, rows: Float32Array, count: number): SourceCache {
  const { layerCount, keyValueHeadCount: heads, headSize } = sizes;
  const length = past.length + count;
  const stride = layerCount * 2 * heads * headSize;
  const join = (old: CacheData, plane: number): CacheData => {
    const joined = new Float32Array(heads * length * headSize);
    for (let head = 0; head < heads; head++) {
      const start = head * length * headSize;
      const oldSize = past.length * headSize;
      joined.set(old.subarray(head * oldSize, (head + 1) * oldSize), start);
      for (let row = 0; row < count; row++) {
        const from = row * stride + (plane * heads + head) * headSize;
        joined.set(rows.subarray(from, from + headSize), start + oldSize + row * headSize);
      }
    }
    return joined;
  };
  return { length, parts: past.parts.map((layers, part) => layers.map((old, layer) => join(old, 2 * layer + part))) };
}
