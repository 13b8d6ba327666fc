/** Which tensors a T5 has. Names are Hugging Face's. */
import type { T5Config } from '../models/model-config.ts';
import { checkTensors, countElements, type TensorCatalog, type TensorShapes } from '../models/tensor-catalog.ts';

/** Name → shape of every tensor that must be there; a head of its own, `lm_head.weight`, may be. */
export function t5TensorShapes(config: T5Config): TensorShapes {
  const { hiddenSize: d, feedForwardSize: ff, headCount, headSize } = config;
  const inner = headCount * headSize;
  const shapes = new Map<string, readonly number[]>([['shared.weight', [config.vocabularySize, d]]]);
  const attention = (prefix: string, name: string): void => {
    for (const part of ['q', 'k', 'v']) shapes.set(`${prefix}.${name}.${part}.weight`, [inner, d]);
    shapes.set(`${prefix}.${name}.o.weight`, [d, inner]);
    shapes.set(`${prefix}.layer_norm.weight`, [d]);
  };
  const stack = (name: string, layerCount: number, cross: boolean): void => {
    for (let layer = 0; layer < layerCount; layer++) {
      const block = `${name}.block.${layer}.layer`;
      attention(`${block}.0`, 'SelfAttention');
      if (cross) attention(`${block}.1`, 'EncDecAttention');
      const last = `${block}.${cross ? 2 : 1}`;
      const inputs = config.gated ? ['wi_0', 'wi_1'] : ['wi'];
      for (const input of inputs) shapes.set(`${last}.DenseReluDense.${input}.weight`, [ff, d]);
      shapes.set(`${last}.DenseReluDense.wo.weight`, [d, ff]);
      shapes.set(`${last}.layer_norm.weight`, [d]);
    }
    const bias = `${name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight`;
    shapes.set(bias, [config.relativeBucketCount, headCount]);
    shapes.set(`${name}.final_layer_norm.weight`, [d]);
  };
  stack('encoder', config.encoderLayerCount, false);
  stack('decoder', config.decoderLayerCount, true);
  return shapes;
}

/** The embedding table under the names of its users: published files may hold it once more, or not. */
const EMBEDDING_COPIES = ['encoder.embed_tokens.weight', 'decoder.embed_tokens.weight'];

/** Throws INVALID_MODEL listing what is missing or has another shape or type; returns warnings about what is not used. */
export function checkT5Tensors(config: T5Config, catalog: TensorCatalog): readonly string[] {
  const shapes = new Map(t5TensorShapes(config));
  for (const name of ['lm_head.weight', ...EMBEDDING_COPIES]) {
    if (catalog.info(name) !== undefined) shapes.set(name, [config.vocabularySize, config.hiddenSize]);
  }
  return checkTensors(shapes, catalog);
}

/** Number of parameters, a tied head counted once. */
export function t5ParameterCount(config: T5Config, untiedHead: boolean): number {
  const head = untiedHead ? config.vocabularySize * config.hiddenSize : 0;
  return head + countElements(t5TensorShapes(config));
}
