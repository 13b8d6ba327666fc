/**
 * T5 as two ONNX graphs, v1.0 and v1.1 alike (Raffel et al. 2020, https://arxiv.org/abs/1910.10683; the layout of
 * weights is Hugging Face's).
 *
 *   encoder: embedded source [b, s, d] → states, and the keys and values of the source for every decoder layer
 *   decoder: one new token for each running row → the states for the output head (output-head.ts), and its own new
 *            keys and values for the caller to keep
 *
 * The word embeddings are looked up by the caller: both graphs and `embed` then share one table.
 */
import {
  attend,
  type DecodeSection,
  declareSection,
  decodeCrossAttention,
  decodeSelfAttention,
  mergeHeads,
  splitHeads,
} from '../graph/attention.ts';
import { GraphBuilder, type Value } from '../graph/graph-builder.ts';
import { addAndNormalize, gatedActivation, linear, rmsNorm, splitLast } from '../graph/layers.ts';
import { type AdaptedModule, type LoraLayer, type LoraTargets, RowLora, RunLora } from '../graph/lora.ts';
import type { OnnxModel } from '../graph/model-proto.ts';
import { floatTensor } from '../tensor.ts';
import type { T5Config } from './model-config.ts';
import type { T5BlockParameters, T5Parameters, T5StackParameters } from './t5-parameters.ts';

/** A residual stream: `sum` is what flows on, `pending` what the last layer adds to it. */
interface Stream {
  readonly sum: Value;
  readonly pending: Value | undefined;
}

function width(config: T5Config): number {
  return config.headCount * config.headSize;
}

/** A graph and which of its matrices have LoRA inputs. */
export interface AdaptableGraph {
  readonly model: OnnxModel;
  readonly adapted: readonly AdaptedModule[];
}

/** Matrices that share an input, stacked over each other. */
interface Projection {
  /** Name of the stack in the graph. */
  readonly name: string;
  /** [Σ out, in] */
  readonly data: Float32Array;
  /** Modules below the path of the layer, in the order of the stack; all of one size. */
  readonly modules: readonly string[];
}

class T5GraphWriter {
  constructor(
    readonly graph: GraphBuilder,
    private readonly config: T5Config,
    private readonly lora: LoraLayer,
    /** Whether matrices that share an input are one product: faster for the few rows of a decode step. */
    private readonly stacked: boolean,
  ) {}

  matrix(name: string, data: Float32Array, columns: number): Value {
    return this.graph.weight(name, floatTensor(data, [data.length / columns, columns]));
  }

  vector(name: string, data: Float32Array): Value {
    return this.graph.weight(name, floatTensor(data, [data.length]));
  }

  /** x [.., inSize] × each matrix of the stack, with what the adapters of the rows add. `path`: of the layer. */
  project(path: string, x: Value, inSize: number, { name, data, modules }: Projection): Value[] {
    const { graph } = this;
    const size = data.length / modules.length;
    const outSize = size / inSize;
    const products =
      this.stacked && modules.length > 1
        ? splitLast(graph, linear(graph, x, this.matrix(name, data, inSize)), outSize, modules.length)
        : modules.map((_, part) =>
            linear(graph, x, this.matrix(name, data.subarray(part * size, (part + 1) * size), inSize)),
          );
    return products.map((y, part) => this.lora.adapt(`${path}.${modules[part]}`, x, y, { inSize, outSize }));
  }

  /** One matrix. */
  projectOne(path: string, x: Value, inSize: number, module: string, data: Float32Array): Value {
    const [y] = this.project(path, x, inSize, { name: module, data, modules: [module] });
    return y as Value;
  }

  /** Adds what is pending to the stream and normalizes: one node but for the very first layer. */
  normalize(stream: Stream, weight: Float32Array): { readonly normalized: Value; readonly sum: Value } {
    const scale = this.vector('norm', weight);
    const epsilon = this.config.layerNormEpsilon;
    if (stream.pending !== undefined) return addAndNormalize(this.graph, stream.sum, stream.pending, scale, epsilon);
    return { normalized: rmsNorm(this.graph, stream.sum, scale, epsilon), sum: stream.sum };
  }

  feedForward(path: string, stream: Stream, block: T5BlockParameters): Stream {
    const { config, graph } = this;
    const { norm, input, output } = block.feedForward;
    return graph.scope('feed_forward', () => {
      const { normalized, sum } = this.normalize(stream, norm);
      const modules = config.gated ? ['DenseReluDense.wi_0', 'DenseReluDense.wi_1'] : ['DenseReluDense.wi'];
      const [gate, up] = this.project(path, normalized, config.hiddenSize, { name: 'wi', data: input, modules });
      const hidden = gatedActivation(graph, gate as Value, up, config.activation);
      return { sum, pending: this.projectOne(path, hidden, config.feedForwardSize, 'DenseReluDense.wo', output) };
    });
  }

  /** Rows [.., d] → queries, keys and values [.., H·dk]. */
  queriesKeysValues(
    path: string,
    normalized: Value,
    block: T5BlockParameters,
  ): { queries: Value; keys: Value; values: Value } {
    const modules = ['SelfAttention.q', 'SelfAttention.k', 'SelfAttention.v'];
    const projection = { name: 'qkv', data: block.selfAttention.queryKeyValue, modules };
    const [queries, keys, values] = this.project(path, normalized, this.config.hiddenSize, projection);
    return { queries: queries as Value, keys: keys as Value, values: values as Value };
  }
}

/** Bias of the encoder: [1, H, s, s] by distance, plus the mask of padding [b, 1, 1, s]. */
function encoderBias(writer: T5GraphWriter, config: T5Config, stack: T5StackParameters): Value {
  const { graph } = writer;
  const table = writer.matrix('relative_bias', stack.relativeBias, config.headCount); // [buckets, H]
  const buckets = graph.input('relative_buckets', 'int32', ['source', 'source']);
  const gathered = graph.node('Gather', [table, buckets], { axis: 0 }); // [s, s, H]
  const byHead = graph.node('Transpose', [gathered], { perm: [2, 0, 1] });
  const mask = graph.input('source_mask', 'float32', ['batch', 1, 1, 'source']);
  return graph.node('Add', [graph.node('Unsqueeze', [byHead, graph.integers(0)]), mask]);
}

/**
 * Inputs: source_embeddings [b, s, d], relative_buckets [s, s], source_mask [b, 1, 1, s] (0 or -inf).
 * Outputs: states [b, s, d]; source_keys.N and source_values.N [b, H, s, dk] for every decoder layer N.
 */
export function buildT5Encoder(config: T5Config, parameters: T5Parameters, targets: LoraTargets): AdaptableGraph {
  const graph = new GraphBuilder('t5-encoder');
  const lora = new RunLora(graph, targets);
  const writer = new T5GraphWriter(graph, config, lora, false);
  const embeddings = graph.input('source_embeddings', 'float32', ['batch', 'source', config.hiddenSize]);
  const bias = encoderBias(writer, config, parameters.encoder);
  let stream: Stream = { sum: embeddings, pending: undefined };
  for (const [index, block] of parameters.encoder.blocks.entries()) {
    const path = `encoder.block.${index}.layer`;
    stream = graph.scope(`encoder/${index}`, () => {
      const attended = graph.scope('self', (): Stream => {
        const { normalized, sum } = writer.normalize(stream, block.selfAttention.norm);
        const { queries, keys, values } = writer.queriesKeysValues(`${path}.0`, normalized, block);
        const [q, k, v] = [queries, keys, values].map((x) => splitHeads(graph, x, config)) as [Value, Value, Value];
        const merged = mergeHeads(graph, attend(graph, q, k, v, bias), config);
        const { output } = block.selfAttention;
        return { sum, pending: writer.projectOne(`${path}.0`, merged, width(config), 'SelfAttention.o', output) };
      });
      return writer.feedForward(`${path}.1`, attended, block);
    });
  }
  const states = graph.scope('encoder/final', () => writer.normalize(stream, parameters.encoder.finalNorm).normalized);
  graph.output(states, 'states', 'float32', ['batch', 'source', config.hiddenSize]);
  const cacheDims = ['batch', config.headCount, 'source', config.headSize];
  for (const [index, { crossAttention }] of parameters.decoder.blocks.entries()) {
    const path = `decoder.block.${index}.layer.1`;
    graph.scope(`decoder/${index}/cross`, () => {
      const keys = writer.projectOne(path, states, config.hiddenSize, 'EncDecAttention.k', crossAttention.key);
      graph.output(splitHeads(graph, keys, config), `source_keys.${index}`, 'float32', cacheDims);
      const values = writer.projectOne(path, states, config.hiddenSize, 'EncDecAttention.v', crossAttention.value);
      graph.output(splitHeads(graph, values, config), `source_values.${index}`, 'float32', cacheDims);
    });
  }
  return { model: graph.build(), adapted: lora.adapted };
}

/** Joins what the sections made of their rows, in the order of the rows. */
function bySection(
  graph: GraphBuilder,
  sections: readonly [DecodeSection, DecodeSection],
  sizes: Value,
  rows: readonly Value[],
  attendRows: (section: DecodeSection, part: readonly Value[]) => Value,
): Value {
  const parts = rows.map((value) => graph.nodeWithOutputs('Split', [value, sizes], { axis: 0 }, 2) as [Value, Value]);
  const [singles, groups] = sections;
  const first = attendRows(
    singles,
    parts.map(([part]) => part),
  );
  const second = attendRows(
    groups,
    parts.map(([, part]) => part),
  );
  return graph.node('Concat', [first, second], { axis: 0 });
}

/**
 * Inputs: token_embeddings [r, d]; section_sizes [2] (rows that are singles, rows that are in groups; in this order);
 * the sections' own (attention.ts).
 * Outputs: states [r, d]; new_cache [r, layers·2·H·dk] (keys, then values, of each layer).
 */
export function buildT5Decoder(config: T5Config, parameters: T5Parameters, targets: LoraTargets): AdaptableGraph {
  const graph = new GraphBuilder('t5-decoder');
  const lora = new RowLora(graph, targets);
  const writer = new T5GraphWriter(graph, config, lora, true);
  const embeddings = graph.input('token_embeddings', 'float32', ['rows', config.hiddenSize]);
  const sizes = graph.input('section_sizes', 'int64', [2]);
  const table = writer.matrix(
    'relative_bias',
    withMaskRow(parameters.decoder.relativeBias, config.headCount),
    config.headCount,
  );
  const sections = [
    declareSection(graph, 'singles', config, table),
    declareSection(graph, 'groups', config, table),
  ] as const;
  const newCache: Value[] = [];
  let stream: Stream = { sum: embeddings, pending: undefined };
  for (const [index, block] of parameters.decoder.blocks.entries()) {
    const path = `decoder.block.${index}.layer`;
    stream = graph.scope(`decoder/${index}`, () => {
      const attended = graph.scope('self', (): Stream => {
        const { normalized, sum } = writer.normalize(stream, block.selfAttention.norm);
        const { queries, keys, values } = writer.queriesKeysValues(`${path}.0`, normalized, block);
        newCache.push(keys, values);
        const joined = bySection(graph, sections, sizes, [queries, keys, values], (section, [q, k, v]) =>
          decodeSelfAttention(graph, section, index, { queries: q as Value, keys: k as Value, values: v as Value }),
        );
        const { output } = block.selfAttention;
        return { sum, pending: writer.projectOne(`${path}.0`, joined, width(config), 'SelfAttention.o', output) };
      });
      const crossed = graph.scope('cross', (): Stream => {
        const cross = block.crossAttention;
        const { normalized, sum } = writer.normalize(attended, cross.norm);
        const queries = writer.projectOne(`${path}.1`, normalized, config.hiddenSize, 'EncDecAttention.q', cross.query);
        const joined = bySection(graph, sections, sizes, [queries], (section, [q]) =>
          decodeCrossAttention(graph, section, index, q as Value),
        );
        const attention = writer.projectOne(`${path}.1`, joined, width(config), 'EncDecAttention.o', cross.output);
        return { sum, pending: attention };
      });
      return writer.feedForward(`${path}.2`, crossed, block);
    });
  }
  const states = graph.scope('decoder/final', () => {
    // the scale of a tied head is folded into the last norm's weight
    const scale = config.scaleDecoderOutput ? config.hiddenSize ** -0.5 : 1;
    return writer.normalize(
      stream,
      parameters.decoder.finalNorm.map((weight) => weight * scale),
    ).normalized;
  });
  const cacheSize = newCache.length * width(config);
  graph.output(graph.node('Concat', newCache, { axis: -1 }), 'new_cache', 'float32', ['rows', cacheSize]);
  graph.output(states, 'states', 'float32', ['rows', config.hiddenSize]);
  return { model: graph.build(), adapted: lora.adapted };
}

/** Appends the row of -inf that masked positions index. table [buckets, H] → [buckets + 1, H]. */
function withMaskRow(table: Float32Array, headCount: number): Float32Array {
  const extended = new Float32Array(table.length + headCount).fill(Number.NEGATIVE_INFINITY);
  extended.set(table);
  return extended;
}
