/** A batch of a T5: sources and targets padded on the right, what is padding in a source masked. */
import type { T5Config } from '../../runtime/models/model-config.ts';
import { decoderBuckets, encoderBuckets } from '../../runtime/t5/relative-buckets.ts';
import { readsSource } from '../../runtime/t5/t5-modules.ts';
import { floatTensor, intTensor } from '../../runtime/tensor.ts';
import { causalMask, type PaddedBatch, padIds, placeLabels, type TrainingExample } from './padded-batch.ts';

export function padT5Batch(config: T5Config, examples: readonly TrainingExample[]): PaddedBatch {
  const { padTokenId, decoderStartTokenId, relativeBucketCount, relativeMaxDistance } = config;
  const count = examples.length;
  const source = padIds(
    examples.map(({ inputIds }) => inputIds),
    padTokenId,
  );
  // the labels moved by one place, behind the decoder's start token
  const target = padIds(
    examples.map(({ labels }) => [decoderStartTokenId, ...labels.slice(0, -1)]),
    padTokenId,
  );
  const [s, t] = [source.length, target.length];
  return {
    count,
    embedded: [
      { input: 'source_embeddings', ...source },
      { input: 'target_embeddings', ...target },
    ],
    ...placeLabels(examples, t, () => 0),
    rowDims: (module) => [count, readsSource(module) ? s : t],
    feeds: {
      source_buckets: intTensor(encoderBuckets(s, relativeBucketCount, relativeMaxDistance), [s, s]),
      target_buckets: intTensor(targetBuckets(t, config), [t, t]),
      source_mask: floatTensor(sourceMask(examples, s), [count, 1, 1, s]),
      causal_mask: floatTensor(causalMask(t), [1, 1, t, t]),
    },
  };
}

/** 0 where a source has a token, -inf where it is padded. */
function sourceMask(examples: readonly TrainingExample[], length: number): Float32Array {
  const mask = new Float32Array(examples.length * length);
  for (const [row, { inputIds }] of examples.entries()) {
    mask.fill(Number.NEGATIVE_INFINITY, row * length + inputIds.length, (row + 1) * length);
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
