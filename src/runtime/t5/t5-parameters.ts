/** T5's weights in the form that the graphs take: matrices that share an input are stacked into one. */
import type { T5Config } from '../models/model-config.ts';
import type { TensorSource } from '../models/tensor-catalog.ts';
import { joinRows } from '../tensor.ts';

interface T5BlockParameters {
  readonly selfAttention: {
    readonly norm: Float32Array;
    /** [3·H·dk, d]: q, k, v stacked. */
    readonly queryKeyValue: Float32Array;
    /** [d, H·dk] */
    readonly output: Float32Array;
  };
  readonly feedForward: {
    readonly norm: Float32Array;
    /** [ff, d], or [2·ff, d] when gated: wi_0 (through the activation), wi_1. */
    readonly input: Float32Array;
    /** [d, ff] */
    readonly output: Float32Array;
  };
}

interface T5DecoderBlockParameters extends T5BlockParameters {
  readonly crossAttention: {
    readonly norm: Float32Array;
    /** [H·dk, d] each. */
    readonly query: Float32Array;
    readonly key: Float32Array;
    readonly value: Float32Array;
    /** [d, H·dk] */
    readonly output: Float32Array;
  };
}

export interface T5StackParameters<Block extends T5BlockParameters = T5BlockParameters> {
  readonly blocks: readonly Block[];
  /** [buckets, H], of the first layer and used by all. */
  readonly relativeBias: Float32Array;
  readonly finalNorm: Float32Array;
}

export interface T5Parameters {
  /** [vocabulary, d] */
  readonly embeddings: Float32Array;
  readonly encoder: T5StackParameters;
  readonly decoder: T5StackParameters<T5DecoderBlockParameters>;
  /** [vocabulary, d]; the same array as `embeddings` when the head is tied. */
  readonly head: Float32Array;
}

/** Reads all tensors of a T5; `onTensor` is called after each. The source has been checked against the config before. */
export async function readT5Parameters(
  config: T5Config,
  source: TensorSource,
  onTensor: () => void = () => {},
): Promise<T5Parameters> {
  const read = async (name: string): Promise<Float32Array> => {
    const data = await source.read(`${name}.weight`);
    onTensor();
    return data;
  };
  const embeddings = await read('shared');
  const reader = new T5StackReader(config, read);
  const encoder = await reader.stack('encoder', config.encoderLayerCount, (prefix) => reader.block(prefix, 1));
  const decoder = await reader.stack('decoder', config.decoderLayerCount, async (prefix) => ({
    ...(await reader.block(prefix, 2)),
    crossAttention: await reader.crossAttention(`${prefix}.layer.1`),
  }));
  const head = source.has('lm_head.weight') ? await read('lm_head') : embeddings;
  return { embeddings, encoder, decoder, head };
}

class T5StackReader {
  constructor(
    private readonly config: T5Config,
    private readonly read: (name: string) => Promise<Float32Array>,
  ) {}

  async stack<Block extends T5BlockParameters>(
    name: 'encoder' | 'decoder',
    count: number,
    readBlock: (prefix: string) => Promise<Block>,
  ): Promise<T5StackParameters<Block>> {
    const relativeBias = await this.read(`${name}.block.0.layer.0.SelfAttention.relative_attention_bias`);
    const blocks: Block[] = [];
    for (let index = 0; index < count; index++) blocks.push(await readBlock(`${name}.block.${index}`));
    return { blocks, relativeBias, finalNorm: await this.read(`${name}.final_layer_norm`) };
  }

  async block(prefix: string, feedForwardLayer: number): Promise<T5BlockParameters> {
    const self = `${prefix}.layer.0`;
    const feedForward = `${prefix}.layer.${feedForwardLayer}`;
    const inputs = this.config.gated ? ['wi_0', 'wi_1'] : ['wi'];
    return {
      selfAttention: {
        norm: await this.read(`${self}.layer_norm`),
        queryKeyValue: await this.stacked(['q', 'k', 'v'].map((part) => `${self}.SelfAttention.${part}`)),
        output: await this.read(`${self}.SelfAttention.o`),
      },
      feedForward: {
        norm: await this.read(`${feedForward}.layer_norm`),
        input: await this.stacked(inputs.map((part) => `${feedForward}.DenseReluDense.${part}`)),
        output: await this.read(`${feedForward}.DenseReluDense.wo`),
      },
    };
  }

  async crossAttention(prefix: string): Promise<T5DecoderBlockParameters['crossAttention']> {
    return {
      norm: await this.read(`${prefix}.layer_norm`),
      query: await this.read(`${prefix}.EncDecAttention.q`),
      key: await this.read(`${prefix}.EncDecAttention.k`),
      value: await this.read(`${prefix}.EncDecAttention.v`),
      output: await this.read(`${prefix}.EncDecAttention.o`),
    };
  }

  /** Rows of several matrices under each other. */
  private async stacked(names: readonly string[]): Promise<Float32Array> {
    const parts: Float32Array[] = [];
    for (const name of names) parts.push(await this.read(name));
    return joinRows(parts);
  }
}
