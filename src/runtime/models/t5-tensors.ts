/** Which tensors a T5 has, and whether a folder has them. Names are Hugging Face's. */
import type { TensorInfo } from '../../storage/safetensors.ts';
import { RuntimeError } from '../errors.ts';
import { elementCount } from '../tensor.ts';
import type { T5Config } from './model-config.ts';

export interface TensorCatalog {
  names(): readonly string[];
  info(name: string): TensorInfo | undefined;
}

/** How many faults a message lists. */
const LISTED_FAULTS = 5;

/** Name → shape of every tensor that must be there; a head of its own, `lm_head.weight`, may be. */
export function t5TensorShapes(config: T5Config): ReadonlyMap<string, readonly number[]> {
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

/** Throws INVALID_MODEL listing what is missing or has another shape; returns warnings about what is not used. */
export function checkT5Tensors(config: T5Config, catalog: TensorCatalog): readonly string[] {
  const shapes = new Map(t5TensorShapes(config));
  if (catalog.info('lm_head.weight') !== undefined) {
    shapes.set('lm_head.weight', [config.vocabularySize, config.hiddenSize]);
  }
  const faults: string[] = [];
  for (const [name, shape] of shapes) {
    const info = catalog.info(name);
    if (info === undefined) faults.push(`${name} is missing`);
    else if (info.shape.join() !== shape.join()) faults.push(`${name} is [${info.shape}], expected [${shape}]`);
  }
  if (faults.length > 0) {
    const more = faults.length > LISTED_FAULTS ? ` and ${faults.length - LISTED_FAULTS} more` : '';
    const message = `The weights do not fit config.json: ${faults.slice(0, LISTED_FAULTS).join('; ')}${more}.`;
    throw new RuntimeError('INVALID_MODEL', message);
  }
  const unused = catalog.names().filter((name) => !shapes.has(name) && !name.endsWith('embed_tokens.weight'));
  return unused.map((name) => `tensor ${name} is not used`);
}

/** Number of parameters, a tied head counted once. */
export function t5ParameterCount(config: T5Config, untiedHead: boolean): number {
  let total = untiedHead ? config.vocabularySize * config.hiddenSize : 0;
  for (const shape of t5TensorShapes(config).values()) total += elementCount(shape);
  return total;
}
