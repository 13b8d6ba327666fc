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
import { addAndNormalize, feedForward, linear, rmsNorm, splitLast } from '../graph/layers.ts';
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

class T5GraphWriter {
  readonly graph: GraphBuilder;

  constructor(
    name: string,
    private readonly config: T5Config,
    /** Whether matrices that share an input are one product: faster for the few rows of a decode step. */
    private readonly stacked: boolean,
  ) {
    this.graph = new GraphBuilder(name);
  }

  /** A matrix of `parts` matrices stacked over each other: one value, or one for each. */
  private projections(name: string, data: Float32Array, parts: number): Value[] {
    const columns = this.config.hiddenSize;
    if (this.stacked || parts === 1) return [this.matrix(name, data, columns)];
    const size = data.length / parts;
    return Array.from({ length: parts }, (_, part) =>
      this.matrix(`${name}.${part}`, data.subarray(part * size, (part + 1) * size), columns),
    );
  }

  matrix(name: string, data: Float32Array, columns: number): Value {
    return this.graph.weight(name, floatTensor(data, [data.length / columns, columns]));
  }

  vector(name: string, data: Float32Array): Value {
    return this.graph.weight(name, floatTensor(data, [data.length]));
  }

  /** Adds what is pending to the stream and normalizes: one node but for the very first layer. */
  normalize(stream: Stream, weight: Float32Array): { readonly normalized: Value; readonly sum: Value } {
    const scale = this.vector('norm', weight);
    const epsilon = this.config.layerNormEpsilon;
    if (stream.pending !== undefined) return addAndNormalize(this.graph, stream.sum, stream.pending, scale, epsilon);
    return { normalized: rmsNorm(this.graph, stream.sum, scale, epsilon), sum: stream.sum };
  }

  feedForward(stream: Stream, block: T5BlockParameters): Stream {
    const { config, graph } = this;
    return graph.scope('feed_forward', () => {
      const { normalized, sum } = this.normalize(stream, block.feedForward.norm);
      const inputs = this.projections('wi', block.feedForward.input, config.gated ? 2 : 1);
      const output = this.matrix('wo', block.feedForward.output, config.feedForwardSize);
      const shape = { activation: config.activation, gated: config.gated, size: config.feedForwardSize };
      return { sum, pending: feedForward(graph, normalized, { inputs, output }, shape) };
    });
  }

  /** Rows [.., d] → queries, keys and values [.., H·dk]. */
  queriesKeysValues(normalized: Value, block: T5BlockParameters): { queries: Value; keys: Value; values: Value } {
    const projected = this.projections('qkv', block.selfAttention.queryKeyValue, 3).map((weight) =>
      linear(this.graph, normalized, weight),
    );
    const [joined] = projected;
    const parts = this.stacked ? splitLast(this.graph, joined as Value, width(this.config), 3) : projected;
    const [queries, keys, values] = parts as [Value, Value, Value];
    return { queries, keys, values };
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
export function buildT5Encoder(config: T5Config, parameters: T5Parameters): OnnxModel {
  const writer = new T5GraphWriter('t5-encoder', config, false);
  const { graph } = writer;
  const embeddings = graph.input('source_embeddings', 'float32', ['batch', 'source', config.hiddenSize]);
  const bias = encoderBias(writer, config, parameters.encoder);
  let stream: Stream = { sum: embeddings, pending: undefined };
  for (const [index, block] of parameters.encoder.blocks.entries()) {
    stream = graph.scope(`encoder/${index}`, () => {
      const attended = graph.scope('self', (): Stream => {
        const { normalized, sum } = writer.normalize(stream, block.selfAttention.norm);
        const { queries, keys, values } = writer.queriesKeysValues(normalized, block);
        const [q, k, v] = [queries, keys, values].map((x) => splitHeads(graph, x, config)) as [Value, Value, Value];
        const merged = mergeHeads(graph, attend(graph, q, k, v, bias), config);
        return { sum, pending: linear(graph, merged, writer.matrix('o', block.selfAttention.output, width(config))) };
      });
      return writer.feedForward(attended, block);
    });
  }
  const states = graph.scope('encoder/final', () => writer.normalize(stream, parameters.encoder.finalNorm).normalized);
  graph.output(states, 'states', 'float32', ['batch', 'source', config.hiddenSize]);
  const cacheDims = ['batch', config.headCount, 'source', config.headSize];
  for (const [index, block] of parameters.decoder.blocks.entries()) {
    const cross = block.crossAttention;
    graph.scope(`decoder/${index}/cross`, () => {
      const keys = linear(graph, states, writer.matrix('k', cross.key, config.hiddenSize));
      graph.output(splitHeads(graph, keys, config), `source_keys.${index}`, 'float32', cacheDims);
      const values = linear(graph, states, writer.matrix('v', cross.value, config.hiddenSize));
      graph.output(splitHeads(graph, values, config), `source_values.${index}`, 'float32', cacheDims);
    });
  }
  return graph.build();
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
export function buildT5Decoder(config: T5Config, parameters: T5Parameters): OnnxModel {
  const writer = new T5GraphWriter('t5-decoder', config, true);
  const { graph } = writer;
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
    stream = graph.scope(`decoder/${index}`, () => {
      const attended = graph.scope('self', (): Stream => {
        const { normalized, sum } = writer.normalize(stream, block.selfAttention.norm);
        const { queries, keys, values } = writer.queriesKeysValues(normalized, block);
        newCache.push(keys, values);
        const joined = bySection(graph, sections, sizes, [queries, keys, values], (section, [q, k, v]) =>
          decodeSelfAttention(graph, section, index, { queries: q as Value, keys: k as Value, values: v as Value }),
        );
        return { sum, pending: linear(graph, joined, writer.matrix('o', block.selfAttention.output, width(config))) };
      });
      const crossed = graph.scope('cross', (): Stream => {
        const cross = block.crossAttention;
        const { normalized, sum } = writer.normalize(attended, cross.norm);
        const queries = linear(graph, normalized, writer.matrix('q', cross.query, config.hiddenSize));
        const joined = bySection(graph, sections, sizes, [queries], (section, [q]) =>
          decodeCrossAttention(graph, section, index, q as Value),
        );
        return { sum, pending: linear(graph, joined, writer.matrix('o', cross.output, width(config))) };
      });
      return writer.feedForward(crossed, block);
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
  return graph.build();
}

/** Appends the row of -inf that masked positions index. table [buckets, H] → [buckets + 1, H]. */
function withMaskRow(table: Float32Array, headCount: number): Float32Array {
  const extended = new Float32Array(table.length + headCount).fill(Number.NEGATIVE_INFINITY);
  extended.set(table);
  return extended;
}
