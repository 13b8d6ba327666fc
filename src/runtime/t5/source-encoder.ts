/** Runs T5's encoder: a source's states, and what the decoder keeps of it. */

import type { EmbeddingLayer } from '../engine/engine-client.ts';
import type { SourceCache } from '../engine/kv-cache.ts';
import type { CachedTensor } from '../graph/cached-tensors.ts';
import { ROW_ZEROS, rowZeros } from '../graph/quantized-linear.ts';
import { AdapterCombination } from '../lora/adapter-combination.ts';
import type { AdapterMemory } from '../lora/adapter-memory.ts';
import { RunFactors } from '../lora/run-factors.ts';
import type { AdaptableSession } from '../models/adapting-runner.ts';
import type { EmbeddingTable } from '../models/embedding-table.ts';
import type { T5Config } from '../models/model-config.ts';
import type { SessionOutputs } from '../session.ts';
import { floatTensor, intTensor } from '../tensor.ts';
import { encoderBuckets } from './relative-buckets.ts';

/** Sources are padded to a multiple of this: the kernels' widest vector, so that padding leaves every bit as it is. */
const SOURCE_MULTIPLE = 16;
/** Bucket tables of longer sources are made anew each time rather than kept. */
const KEPT_BUCKETS_LENGTH = 512;

export interface SourceEncoderParts {
  readonly encoder: AdaptableSession;
  readonly table: EmbeddingTable;
  readonly memory: AdapterMemory;
  /** What is kept of a source: outputs of the encoder, by layer. */
  readonly source: readonly CachedTensor[];
}

export class SourceEncoder {
  readonly factors: RunFactors;
  private readonly bucketCache = new Map<number, Int32Array>();
  /** Of each tensor of a source, by layer. */
  private readonly outputs: readonly (readonly string[])[];

  constructor(
    private readonly config: T5Config,
    private readonly parts: SourceEncoderParts,
  ) {
    this.factors = new RunFactors(parts.encoder.adapted, parts.memory.factorBytes);
    // what the layers have in common is the states themselves
    this.outputs = parts.source.map(({ name, isShared = false }) =>
      isShared ? ['states'] : Array.from({ length: config.decoderLayerCount }, (_, layer) => `${name}.${layer}`),
    );
  }

  async encode(tokenIds: readonly number[], adapters: AdapterCombination): Promise<SourceCache> {
    const outputs = await this.run([tokenIds], adapters, this.outputs.flat());
    const parts = this.outputs.map((names) => names.map((name) => outputs.cached(name)));
    return { length: padded(tokenIds.length), parts };
  }

  /** The states of several sources, each as what is kept of it (`stateCache`). */
  async encodeTogether(
    sources: readonly (readonly number[])[],
    adapters: AdapterCombination,
  ): Promise<readonly SourceCache[]> {
    const outputs = await this.run(sources, adapters, ['states']);
    const states = outputs.floats('states');
    const stride = states.length / sources.length;
    return sources.map((tokenIds, source) => {
      const length = padded(tokenIds.length);
      const start = source * stride;
      return { length, parts: [[states.subarray(start, start + length * this.config.hiddenSize)]] };
    });
  }

  /** One vector a token, [tokens, d], of the model as it is: of the table, or the final states. */
  async embed(tokenIds: readonly number[], layer: EmbeddingLayer): Promise<Float32Array> {
    if (layer === 'input') return this.parts.table.rows(tokenIds);
    const outputs = await this.run([tokenIds], AdapterCombination.none, ['states']);
    return outputs.floats('states').slice(0, tokenIds.length * this.config.hiddenSize);
  }

  async dispose(): Promise<void> {
    await this.parts.encoder.session.dispose();
  }

  private async run(
    sources: readonly (readonly number[])[],
    adapters: AdapterCombination,
    outputNames: readonly string[],
  ): Promise<SessionOutputs> {
    const { encoder, table } = this.parts;
    const { hiddenSize } = this.config;
    this.factors.evict(new Set([adapters]));
    const length = padded(Math.max(...sources.map((tokenIds) => tokenIds.length)));
    const embeddings = new Float32Array(sources.length * length * hiddenSize);
    const mask = new Float32Array(sources.length * length).fill(Number.NEGATIVE_INFINITY);
    for (const [source, tokenIds] of sources.entries()) {
      embeddings.set(table.rows(tokenIds), source * length * hiddenSize);
      mask.fill(0, source * length, source * length + tokenIds.length);
    }
    return encoder.session.run(
      {
        ...this.factors.of(adapters),
        source_embeddings: floatTensor(embeddings, [sources.length, length, hiddenSize]),
        relative_buckets: intTensor(this.bucketsOf(length), [length, length]),
        source_mask: floatTensor(mask, [sources.length, 1, 1, length]),
        [ROW_ZEROS]: rowZeros(length),
      },
      outputNames,
    );
  }

  private bucketsOf(length: number): Int32Array {
    const kept = this.bucketCache.get(length);
    if (kept !== undefined) return kept;
    const buckets = encoderBuckets(length, this.config.relativeBucketCount, this.config.relativeMaxDistance);
    if (length <= KEPT_BUCKETS_LENGTH) this.bucketCache.set(length, buckets);
    return buckets;
  }
}

function padded(length: number): number {
  return Math.ceil(length / SOURCE_MULTIPLE) * SOURCE_MULTIPLE;
}
