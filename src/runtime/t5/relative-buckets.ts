/**
 * T5's relative position buckets (Raffel et al. 2020, section 2.1; `_relative_position_bucket` of transformers):
 * near distances have a bucket each, far ones share logarithmically wider ones. Rounded in float32 as PyTorch does.
 */

function logarithmicBucket(distance: number, bucketCount: number, maxDistance: number): number {
  const exactCount = Math.floor(bucketCount / 2);
  if (distance < exactCount) return distance;
  const { fround, log } = Math;
  const share = fround(fround(log(fround(distance / exactCount))) / fround(log(maxDistance / exactCount)));
  const bucket = exactCount + Math.trunc(fround(share * (bucketCount - exactCount)));
  return Math.min(bucket, bucketCount - 1);
}

/** Returns the buckets [length · length] of the encoder, query by key: half of them look ahead, half back. */
export function encoderBuckets(length: number, bucketCount: number, maxDistance: number): Int32Array {
  const half = Math.floor(bucketCount / 2);
  const buckets = new Int32Array(length * length);
  for (let query = 0; query < length; query++) {
    for (let key = 0; key < length; key++) {
      const bucket = logarithmicBucket(Math.abs(key - query), half, maxDistance);
      buckets[query * length + key] = key > query ? bucket + half : bucket;
    }
  }
  return buckets;
}

/** Returns the buckets of the decoder by distance (query position − key position ≥ 0), for distances below `length`. */
export function decoderBuckets(length: number, bucketCount: number, maxDistance: number): Int32Array {
  return Int32Array.from({ length }, (_, distance) => logarithmicBucket(distance, bucketCount, maxDistance));
}
