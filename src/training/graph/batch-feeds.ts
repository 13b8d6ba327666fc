/** A batch of token ids as the inputs of a T5 training graph: padded on the right, what is padding masked. */
import type { T5Config } from '../../runtime/models/model-config.ts';
import type { Feeds } from '../../runtime/session.ts';
import { decoderBuckets, encoderBuckets } from '../../runtime/t5/relative-buckets.ts';
import { floatTensor, intTensor, longTensor } from '../../runtime/tensor.ts';

export interface TrainingExample {
  /** The source, its end token included; one at least. */
  readonly inputIds: readonly number[];
  /** What is to be written, its end token included; one at least. */
  readonly labels: readonly number[];
}

/** Examples padded to the longest: source [b, s], target [b, t] row by row. */
export interface PaddedBatch {
  readonly count: number;
  readonly sourceLength: number;
  readonly targetLength: number;
  readonly sourceIds: Int32Array;
  /** The labels moved by one place, behind the decoder's start token. */
  readonly targetIds: Int32Array;
  /** Rows of the target whose next token is a label, and which. */
  readonly labelRows: Int32Array;
  readonly labelIds: Int32Array;
}

export function padBatch(config: T5Config, examples: readonly TrainingExample[]): PaddedBatch {
  const count = examples.length;
  const sourceLength = Math.max(...examples.map(({ inputIds }) => inputIds.length));
  const targetLength = Math.max(...examples.map(({ labels }) => labels.length));
  const sourceIds = new Int32Array(count * sourceLength).fill(config.padTokenId);
  const targetIds = new Int32Array(count * targetLength).fill(config.padTokenId);
  const labelRows: number[] = [];
  for (const [row, { inputIds, labels }] of examples.entries()) {
    sourceIds.set(inputIds, row * sourceLength);
    targetIds.set([config.decoderStartTokenId, ...labels.slice(0, -1)], row * targetLength);
    for (let place = 0; place < labels.length; place++) labelRows.push(row * targetLength + place);
  }
  const labelIds = Int32Array.from(examples.flatMap(({ labels }) => labels));
  return { count, sourceLength, targetLength, sourceIds, targetIds, labelRows: Int32Array.from(labelRows), labelIds };
}

function lookUp(table: Float32Array, size: number, ids: Int32Array): Float32Array {
  const rows = new Float32Array(ids.length * size);
  for (const [index, id] of ids.entries()) rows.set(table.subarray(id * size, (id + 1) * size), index * size);
  return rows;
}

/** 0 where a source has a token, -inf where it is padded. */
function sourceMask({ count, sourceLength }: PaddedBatch, examples: readonly TrainingExample[]): Float32Array {
  const mask = new Float32Array(count * sourceLength);
  for (const [row, { inputIds }] of examples.entries()) {
    mask.fill(Number.NEGATIVE_INFINITY, row * sourceLength + inputIds.length, (row + 1) * sourceLength);
  }
  return mask;
}

/** -inf where a token would see one that comes later. */
function causalMask(length: number): Float32Array {
  const mask = new Float32Array(length * length);
  for (let query = 0; query < length; query++) {
    mask.fill(Number.NEGATIVE_INFINITY, query * length + query + 1, (query + 1) * length);
  }
  return mask;
}

function targetBuckets(length: number, config: T5Config): Int32Array {
  const byDistance = decoderBuckets(length, config.relativeBucketCount, config.relativeMaxDistance);
  const buckets = new Int32Array(length * length);
  for (let query = 0; query < length; query++) {
    for (let key = 0; key <= query; key++) buckets[query * length + key] = byDistance[query - key] as number;
  }
  return buckets;
}

/** Rows of each chunk: as even as can be. */
function chunkSizes(rows: number, chunks: number): readonly number[] {
  return Array.from(
    { length: chunks },
    (_, chunk) => Math.floor(((chunk + 1) * rows) / chunks) - Math.floor((chunk * rows) / chunks),
  );
}

export interface FeedOptions {
  readonly config: T5Config;
  /** [vocabulary, d] */
  readonly embeddings: Float32Array;
  readonly lossChunks: number;
}

export function batchFeeds(
  batch: PaddedBatch,
  examples: readonly TrainingExample[],
  { config, embeddings, lossChunks }: FeedOptions,
): Feeds {
  const { count, sourceLength: s, targetLength: t } = batch;
  const { hiddenSize: d, relativeBucketCount, relativeMaxDistance } = config;
  return {
    source_embeddings: floatTensor(lookUp(embeddings, d, batch.sourceIds), [count, s, d]),
    target_embeddings: floatTensor(lookUp(embeddings, d, batch.targetIds), [count, t, d]),
    source_buckets: intTensor(encoderBuckets(s, relativeBucketCount, relativeMaxDistance), [s, s]),
    target_buckets: intTensor(targetBuckets(t, config), [t, t]),
    source_mask: floatTensor(sourceMask(batch, examples), [count, 1, 1, s]),
    causal_mask: floatTensor(causalMask(t), [1, 1, t, t]),
    label_rows: intTensor(batch.labelRows, [batch.labelRows.length]),
    label_ids: intTensor(batch.labelIds, [batch.labelIds.length]),
    chunk_sizes: longTensor(chunkSizes(batch.labelIds.length, lossChunks)),
  };
}
