/** T5's weights as the serving graphs hold them: constants, found by the paths that Hugging Face gives their modules. */
import { invariant } from '../errors.ts';
import type { GraphBuilder, Value } from '../graph/graph-builder.ts';
import { splitLast } from '../graph/layers.ts';
import type { AdaptedShape } from '../graph/lora.ts';
import type { MatrixProducts } from '../graph/matrix-products.ts';
import type { T5Config } from '../models/model-config.ts';
import { floatTensor } from '../tensor.ts';
import { relativeBiasPath, type T5StackName, type T5Weights } from './t5-layers.ts';
import type { T5Parameters, T5StackParameters } from './t5-parameters.ts';

/** Weights that a graph holds. Matrices that share an input lie under the path of the first of them, stacked. */
export class ConstantWeights implements T5Weights {
  constructor(
    private readonly graph: GraphBuilder,
    private readonly constants: ReadonlyMap<string, Float32Array>,
    private readonly config: T5Config,
    private readonly multiply: MatrixProducts,
    /** Whether matrices that share an input are one product: faster for the few rows of a decode step. */
    private readonly stacked: boolean,
  ) {}

  products(x: Value, modules: readonly string[], { inSize, outSize }: AdaptedShape): Value[] {
    const [first = ''] = modules;
    const data = this.data(first);
    if (this.stacked && modules.length > 1) {
      const sizes = modules.map(() => outSize);
      return splitLast(this.graph, this.multiply.product(x, first, data, inSize), sizes);
    }
    const size = outSize * inSize;
    return modules.map((module, part) =>
      this.multiply.product(x, module, data.subarray(part * size, (part + 1) * size), inSize),
    );
  }

  norm(path: string): Value {
    const data = this.data(path);
    return this.graph.weight('norm', floatTensor(data, [data.length]));
  }

  relativeBias(stack: T5StackName): Value {
    return this.matrix('relative_bias', this.data(relativeBiasPath(stack)), this.config.headCount);
  }

  private matrix(name: string, data: Float32Array, columns: number): Value {
    return this.graph.weight(name, floatTensor(data, [data.length / columns, columns]));
  }

  private data(path: string): Float32Array {
    const data = this.constants.get(path);
    invariant(data !== undefined, `the weights of ${path} are there`);
    return data;
  }
}

/** The weights by their paths; stacks lie under the path of their first matrix. */
export function constantsOf(config: T5Config, { encoder, decoder }: T5Parameters): Map<string, Float32Array> {
  const constants = new Map<string, Float32Array>();
  const stack = (name: T5StackName, { blocks, relativeBias, finalNorm }: T5StackParameters): void => {
    constants.set(relativeBiasPath(name), relativeBias).set(`${name}.final_layer_norm`, finalNorm);
    for (const [index, { selfAttention, feedForward }] of blocks.entries()) {
      const self = `${name}.block.${index}.layer.0`;
      const last = `${name}.block.${index}.layer.${name === 'encoder' ? 1 : 2}`;
      constants.set(`${self}.layer_norm`, selfAttention.norm).set(`${last}.layer_norm`, feedForward.norm);
      constants.set(`${self}.SelfAttention.q`, selfAttention.queryKeyValue);
      constants.set(`${self}.SelfAttention.o`, selfAttention.output);
      constants.set(`${last}.DenseReluDense.${config.gated ? 'wi_0' : 'wi'}`, feedForward.input);
      constants.set(`${last}.DenseReluDense.wo`, feedForward.output);
    }
  };
  stack('encoder', encoder);
  stack('decoder', decoder);
  for (const [index, { crossAttention }] of decoder.blocks.entries()) {
    const layer = `decoder.block.${index}.layer.1`;
    const { norm, query, key, value, output } = crossAttention;
    constants.set(`${layer}.layer_norm`, norm);
    for (const [part, data] of Object.entries({ q: query, k: key, v: value, o: output })) {
      constants.set(`${layer}.EncDecAttention.${part}`, data);
    }
  }
  return constants;
}

/** The constants of a decoder whose bias can mask, and whose last norm has taken in the scale of a tied head. */
export function decoderConstants(config: T5Config, parameters: T5Parameters): ReadonlyMap<string, Float32Array> {
  const scale = config.scaleDecoderOutput ? config.hiddenSize ** -0.5 : 1;
  const { finalNorm, relativeBias } = parameters.decoder;
  return constantsOf(config, parameters)
    .set(relativeBiasPath('decoder'), withMaskRow(relativeBias, config.headCount))
    .set(
      'decoder.final_layer_norm',
      finalNorm.map((weight) => weight * scale),
    );
}

/** Appends the row of -inf that masked positions index. table [buckets, H] → [buckets + 1, H]. */
function withMaskRow(table: Float32Array, headCount: number): Float32Array {
  const extended = new Float32Array(table.length + headCount).fill(Number.NEGATIVE_INFINITY);
  extended.set(table);
  return extended;
}
