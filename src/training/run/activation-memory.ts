/** About how much memory the values take that a step keeps for its way back: enough to decide, not to account. */
import type { T5Config } from '../../runtime/models/model-config.ts';

export interface BatchSize {
  readonly count: number;
  readonly sourceLength: number;
  readonly targetLength: number;
}

const FLOAT_BYTES = 4;
/** Values kept for each token of a block, by what they are as long as; counted in the graphs that are built. */
const HIDDEN = 6;
const INNER = 5;
const FEED_FORWARD = 7;
const SCORES = 3;

/** Bytes of one batch's activations, kept in all blocks. */
export function activationBytes(config: T5Config, { count, sourceLength, targetLength }: BatchSize): number {
  const { hiddenSize, headCount, headSize, feedForwardSize } = config;
  const inner = headCount * headSize;
  const block = (length: number, keys: number, attentions: number): number =>
    length *
    (HIDDEN * hiddenSize + attentions * INNER * inner + FEED_FORWARD * feedForwardSize + SCORES * headCount * keys);
  const encoder = config.encoderLayerCount * block(sourceLength, sourceLength, 1);
  const cross = 2 * sourceLength * inner;
  const decoder = config.decoderLayerCount * (block(targetLength, sourceLength + targetLength, 2) + cross);
  return FLOAT_BYTES * count * (encoder + decoder);
}

/** Most logits that are in memory at a time. */
const LOGIT_BYTES = 2 ** 26;

/** Chunks that the label tokens of a batch are taken in; of the plan alone, as the chunks decide the order of sums. */
export function lossChunks(config: T5Config, { count, targetLength }: BatchSize): number {
  return Math.max(1, Math.ceil((count * targetLength * config.vocabularySize * FLOAT_BYTES) / LOGIT_BYTES));
}
