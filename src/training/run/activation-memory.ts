/** About how much memory the values take that a step keeps for its way back: enough to decide, not to account. */
import type { DecoderOnlyConfig, ModelConfig, T5Config } from '../../runtime/models/model-config.ts';

export interface BatchSize {
  readonly count: number;
  /** Of sources, or of prompts with their summaries. */
  readonly inputLength: number;
  readonly targetLength: number;
}

const FLOAT_BYTES = 4;
/** Values that a token of a block has on its way, kept or not, by what they are as long as. */
const HIDDEN = 6;
const INNER = 5;
const FEED_FORWARD = 7;
const SCORES = 3;

/** Bytes of one batch's activations, kept in all blocks. */
export function activationBytes(config: ModelConfig, size: BatchSize): number {
  const values = config.family === 't5' ? t5Values(config, size) : decoderOnlyValues(config, size);
  return FLOAT_BYTES * size.count * values;
}

/** Of one row. */
function t5Values(config: T5Config, { inputLength: source, targetLength: target }: BatchSize): number {
  const encoder = config.encoderLayerCount * blockValues(config, source, source, 1);
  const cross = 2 * source * config.headCount * config.headSize;
  return encoder + config.decoderLayerCount * (blockValues(config, target, source + target, 2) + cross);
}

function decoderOnlyValues(config: DecoderOnlyConfig, { inputLength: length }: BatchSize): number {
  return config.layerCount * blockValues(config, length, length, 1);
}

/** Of `length` tokens in a block whose attentions see `keys` of them together. */
function blockValues(
  { hiddenSize, headCount, headSize, feedForwardSize }: ModelConfig,
  length: number,
  keys: number,
  attentions: number,
): number {
  const inner = attentions * INNER * headCount * headSize;
  return length * (HIDDEN * hiddenSize + inner + FEED_FORWARD * feedForwardSize + SCORES * headCount * keys);
}

/** Activations may take this share of the machine's memory before they are computed again on the way back. */
const ACTIVATION_SHARE = 1 / 4;

/** Whether blocks are to be computed again on the way back, on a machine of so many bytes of memory. */
export function isRecomputed(config: ModelConfig, size: BatchSize, memory: number): boolean {
  return activationBytes(config, size) > memory * ACTIVATION_SHARE;
}

/** Most logits that are in memory at a time. */
const LOGIT_BYTES = 2 ** 26;

/** Chunks that the label tokens of a batch are taken in; of the plan alone, as the chunks decide the order of sums. */
export function lossChunks(config: ModelConfig, { count, targetLength }: BatchSize): number {
  return Math.max(1, Math.ceil((count * targetLength * config.vocabularySize * FLOAT_BYTES) / LOGIT_BYTES));
}
