/**
 * The layers of T5 as graph nodes, the same for serving and for training (Raffel et al. 2020,
 * https://arxiv.org/abs/1910.10683). Weights are asked for by the paths that Hugging Face gives their modules.
 */
import { attend, mergeHeads, splitHeads } from '../graph/attention.ts';
import type { GraphBuilder, Value } from '../graph/graph-builder.ts';
import { addAndNormalize, gatedActivation, type ReadStream, rmsNorm, type Stream } from '../graph/layers.ts';
import type { AdaptedShape, LoraLayer } from '../graph/lora.ts';
import type { T5Config } from '../models/model-config.ts';

export type T5StackName = 'encoder' | 'decoder';

/** The module whose weight is the table of a stack's relative position bias. */
export function relativeBiasPath(stack: T5StackName): string {
  return `${stack}.block.0.layer.0.SelfAttention.relative_attention_bias`;
}

/** Where a graph's weights come from: constants that it holds, or inputs. */
export interface T5Weights {
  /** x times the matrix of each of `modules`, which all are [outSize, inSize]. */
  products(x: Value, modules: readonly string[], shape: AdaptedShape): Value[];
  /** The weight of a norm. */
  norm(path: string): Value;
  /** [buckets, H] of a stack. */
  relativeBias(stack: T5StackName): Value;
}

/** [rows, H·dk] each. */
export interface AttentionRows {
  readonly queries: Value;
  readonly keys: Value;
  readonly values: Value;
}

/** The attentions of a decoder's blocks over rows that stand alone; [rows, H·dk] in and out. */
export interface DecoderAttention {
  self(block: number, rows: AttentionRows): Value;
  cross(block: number, queries: Value): Value;
}

export interface DecodedRows {
  /** [rows, d] */
  readonly states: Value;
  /** By block. */
  readonly rows: readonly Pick<AttentionRows, 'keys' | 'values'>[];
}

export class T5Layers {
  readonly shapes: { readonly toHeads: AdaptedShape; readonly fromHeads: AdaptedShape };

  constructor(
    readonly graph: GraphBuilder,
    readonly config: T5Config,
    private readonly weights: T5Weights,
    private readonly lora: LoraLayer,
  ) {
    const { hiddenSize, headCount, headSize } = config;
    const width = headCount * headSize;
    this.shapes = {
      toHeads: { inSize: hiddenSize, outSize: width },
      fromHeads: { inSize: width, outSize: hiddenSize },
    };
  }

  /** x [.., inSize] × each matrix, with what the adapters of the rows add. */
  project(x: Value, modules: readonly string[], shape: AdaptedShape): Value[] {
    const products = this.weights.products(x, modules, shape);
    return products.map((y, part) => this.lora.adapt(modules[part] as string, x, y, shape));
  }

  /** One matrix. */
  projectOne(x: Value, module: string, shape: AdaptedShape): Value {
    const [y] = this.project(x, [module], shape);
    return y as Value;
  }

  /** Adds what is pending to the stream and normalizes: one node but for the very first layer. `path`: of the norm. */
  normalize(stream: Stream, path: string): ReadStream {
    const scale = this.weights.norm(path);
    const epsilon = this.config.layerNormEpsilon;
    if (stream.pending !== undefined) return addAndNormalize(this.graph, stream.sum, stream.pending, scale, epsilon);
    return { normalized: rmsNorm(this.graph, stream.sum, scale, epsilon), sum: stream.sum };
  }

  /** `path`: of the layer. */
  feedForward(path: string, stream: Stream): Stream {
    const { config, graph } = this;
    const { hiddenSize, feedForwardSize } = config;
    return graph.scope('feed_forward', () => {
      const { normalized, sum } = this.normalize(stream, `${path}.layer_norm`);
      const dense = `${path}.DenseReluDense`;
      const inputs = config.gated ? [`${dense}.wi_0`, `${dense}.wi_1`] : [`${dense}.wi`];
      const [gate, up] = this.project(normalized, inputs, { inSize: hiddenSize, outSize: feedForwardSize });
      const hidden = gatedActivation(graph, gate as Value, up, config.activation);
      const pending = this.projectOne(hidden, `${dense}.wo`, { inSize: feedForwardSize, outSize: hiddenSize });
      return { sum, pending };
    });
  }

  /** Rows [.., d] → queries, keys and values [.., H·dk]; `path`: of the layer. */
  queriesKeysValues(path: string, normalized: Value): AttentionRows {
    const modules = ['q', 'k', 'v'].map((part) => `${path}.SelfAttention.${part}`);
    const [queries, keys, values] = this.project(normalized, modules, this.shapes.toHeads);
    return { queries: queries as Value, keys: keys as Value, values: values as Value };
  }

  /** Self-attention over whole sequences: x [b, s, d], bias broadcasts to [b, H, s, s]. */
  selfAttention(path: string, stream: Stream, bias: Value): Stream {
    const { config, graph } = this;
    return graph.scope('self', () => {
      const { normalized, sum } = this.normalize(stream, `${path}.layer_norm`);
      const { queries, keys, values } = this.queriesKeysValues(path, normalized);
      const [q, k, v] = [queries, keys, values].map((x) => splitHeads(graph, x, config)) as [Value, Value, Value];
      const merged = mergeHeads(graph, attend(graph, q, k, v, bias), config);
      return { sum, pending: this.projectOne(merged, `${path}.SelfAttention.o`, this.shapes.fromHeads) };
    });
  }

  /** The keys and values [b, s, H·dk] that cross-attention reads of the encoder's states; `path`: of the layer. */
  sourceKeysValues(path: string, states: Value): { readonly keys: Value; readonly values: Value } {
    const read = (part: string): Value =>
      this.projectOne(states, `${path}.EncDecAttention.${part}`, this.shapes.toHeads);
    return { keys: read('k'), values: read('v') };
  }

  /** [1, H, q, k] by the buckets [q, k] of the distances. */
  relativeBias(stack: T5StackName, buckets: Value): Value {
    const { graph } = this;
    const gathered = graph.node('Gather', [this.weights.relativeBias(stack), buckets], { axis: 0 }); // [q, k, H]
    return graph.node('Unsqueeze', [graph.node('Transpose', [gathered], { perm: [2, 0, 1] }), graph.integers(0)]);
  }

  /** Embedded sources [b, s, d] → states [b, s, d]. `around` runs what builds a block. */
  encode(embeddings: Value, bias: Value, around: (build: () => Stream) => Stream = (build) => build()): Value {
    const { config, graph } = this;
    let stream: Stream = { sum: embeddings, pending: undefined };
    for (let index = 0; index < config.encoderLayerCount; index++) {
      const path = `encoder.block.${index}.layer`;
      stream = around(() =>
        graph.scope(`encoder/${index}`, () =>
          this.feedForward(`${path}.1`, this.selfAttention(`${path}.0`, stream, bias)),
        ),
      );
    }
    return this.finish('encoder', stream);
  }

  /** One token a row, embedded [rows, d]: its states, and its own keys and values of each block. */
  decode(embeddings: Value, attention: DecoderAttention): DecodedRows {
    const { config, graph } = this;
    const { fromHeads, toHeads } = this.shapes;
    const rows: AttentionRows[] = [];
    let stream: Stream = { sum: embeddings, pending: undefined };
    for (let block = 0; block < config.decoderLayerCount; block++) {
      const path = `decoder.block.${block}.layer`;
      stream = graph.scope(`decoder/${block}`, () => {
        const attended = graph.scope('self', (): Stream => {
          const { normalized, sum } = this.normalize(stream, `${path}.0.layer_norm`);
          const own = this.queriesKeysValues(`${path}.0`, normalized);
          rows.push(own);
          const joined = attention.self(block, own);
          return { sum, pending: this.projectOne(joined, `${path}.0.SelfAttention.o`, fromHeads) };
        });
        const crossed = graph.scope('cross', (): Stream => {
          const { normalized, sum } = this.normalize(attended, `${path}.1.layer_norm`);
          const queries = this.projectOne(normalized, `${path}.1.EncDecAttention.q`, toHeads);
          const joined = attention.cross(block, queries);
          return { sum, pending: this.projectOne(joined, `${path}.1.EncDecAttention.o`, fromHeads) };
        });
        return this.feedForward(`${path}.2`, crossed);
      });
    }
    return { states: this.finish('decoder', stream), rows };
  }

  /** The last norm of a stack. */
  finish(stack: T5StackName, stream: Stream): Value {
    return this.graph.scope(`${stack}/final`, () => this.normalize(stream, `${stack}.final_layer_norm`).normalized);
  }
}
