/** A batch of token ids as the inputs of a training graph. */
import { FloatTable } from '../../runtime/models/embedding-table.ts';
import type { ModelConfig } from '../../runtime/models/model-config.ts';
import type { Feeds } from '../../runtime/session.ts';
import { floatTensor, intTensor, longTensor, type TensorValue } from '../../runtime/tensor.ts';
import { padDecoderOnlyBatch } from './decoder-only-batch.ts';
import type { PaddedBatch, TrainingExample } from './padded-batch.ts';
import { padT5Batch } from './t5-batch.ts';

export function padBatch(config: ModelConfig, examples: readonly TrainingExample[]): PaddedBatch {
  return config.family === 't5' ? padT5Batch(config, examples) : padDecoderOnlyBatch(config, examples);
}

/** Rows of each chunk: as even as can be. */
function chunkSizes(rows: number, chunks: number): readonly number[] {
  return Array.from(
    { length: chunks },
    (_, chunk) => Math.floor(((chunk + 1) * rows) / chunks) - Math.floor((chunk * rows) / chunks),
  );
}

export interface FeedOptions {
  /** [vocabulary, d] */
  readonly embeddings: Float32Array;
  readonly hiddenSize: number;
  readonly lossChunks: number;
}

export function batchFeeds(batch: PaddedBatch, { embeddings, hiddenSize, lossChunks }: FeedOptions): Feeds {
  const { count, labelRows, labelIds } = batch;
  const table = new FloatTable(embeddings, hiddenSize);
  const embedded: Record<string, TensorValue> = {};
  for (const { input, ids, length } of batch.embedded) {
    embedded[input] = floatTensor(table.rows(ids), [count, length, hiddenSize]);
  }
  return {
    ...embedded,
    ...batch.feeds,
    label_rows: intTensor(labelRows, [labelRows.length]),
    label_ids: intTensor(labelIds, [labelIds.length]),
    chunk_sizes: longTensor(chunkSizes(labelIds.length, lossChunks)),
  };
}
