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
import { invariant } from '../errors.ts';
import {
  attend,
  DecodeSections,
  decodeSelfAttention,
  keysAndValues,
  type SectionName,
  type SectionView,
  splitHeads,
} from '../graph/attention.ts';
import { type CachedTensor, floatCache, quantizedSourceCache } from '../graph/cached-tensors.ts';
import { GraphBuilder, type Value } from '../graph/graph-builder.ts';
import { type Stream, splitLast } from '../graph/layers.ts';
import { type AdaptableGraph, type AdaptedShape, type LoraTargets, RowLora, RunLora } from '../graph/lora.ts';
import { createProducts, type MatrixProducts } from '../graph/matrix-products.ts';
import { attendQuantized, quantizedSource, quantizeSource } from '../graph/quantized-attention.ts';
import type { Int8Format } from '../graph/quantized-linear.ts';
import type { T5Config } from '../models/model-config.ts';
import { floatTensor } from '../tensor.ts';
import { relativeBiasPath, T5Layers, type T5StackName, type T5Weights } from './t5-layers.ts';
import type { T5Parameters, T5StackParameters } from './t5-parameters.ts';

/** Weights that a graph holds. Matrices that share an input lie under the path of the first of them, stacked. */
class ConstantWeights implements T5Weights {
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
function constantsOf(config: T5Config, { encoder, decoder }: T5Parameters): Map<string, Float32Array> {
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

/** What is kept of a source: in 8 bits where the weights are. */
export function t5SourceCache(config: T5Config, isQuantized: boolean): readonly CachedTensor[] {
  return isQuantized ? quantizedSourceCache(config) : floatCache('source', config);
}

/** [b, s, 1]: 1 where the mask [b, 1, 1, s] is 0, 0 where it is -inf. */
function presentOf(graph: GraphBuilder, mask: Value): Value {
  return graph.node('Reshape', [graph.node('Exp', [mask]), graph.integers(0, -1, 1)]);
}

/** The tensors of `t5SourceCache` of one layer, of keys and values [b, s, H·dk]; `present`: in 8 bits, as quantizeSource takes it. */
function cachedSource(
  graph: GraphBuilder,
  rows: { readonly keys: Value; readonly values: Value },
  config: T5Config,
  present: Value | undefined,
): readonly Value[] {
  if (present === undefined) return [rows.keys, rows.values].map((x) => splitHeads(graph, x, config));
  const { keys, keyScales, values, valueScales } = quantizeSource(graph, rows, present, config);
  return [keys, keyScales, values, valueScales];
}

/**
 * Inputs: source_embeddings [b, s, d], relative_buckets [s, s], source_mask [b, 1, 1, s] (0 or -inf). `int8`
 * undefined: float32. b is 1 in 8 bits.
 * Outputs: states [b, s, d]; NAME.N, a tensor of `t5SourceCache` [b, …], for every decoder layer N.
 */
export function buildT5Encoder(
  config: T5Config,
  parameters: T5Parameters,
  targets: LoraTargets,
  int8?: Int8Format,
): AdaptableGraph {
  const graph = new GraphBuilder('t5-encoder');
  const lora = new RunLora(graph, targets);
  const weights = new ConstantWeights(
    graph,
    constantsOf(config, parameters),
    config,
    createProducts(graph, int8, true),
    false,
  );
  const layers = new T5Layers(graph, config, weights, lora);
  const embeddings = graph.input('source_embeddings', 'float32', ['batch', 'source', config.hiddenSize]);
  const relativeBias = layers.relativeBias('encoder', graph.input('relative_buckets', 'int32', ['source', 'source']));
  const mask = graph.input('source_mask', 'float32', ['batch', 1, 1, 'source']);
  const states = layers.encode(embeddings, graph.node('Add', [relativeBias, mask]));
  graph.output(states, 'states', 'float32', ['batch', 'source', config.hiddenSize]);
  const parts = t5SourceCache(config, int8 !== undefined);
  const present = int8 === undefined ? undefined : presentOf(graph, mask);
  for (let index = 0; index < config.decoderLayerCount; index++) {
    graph.scope(`decoder/${index}/cross`, () => {
      const rows = layers.sourceKeysValues(`decoder.block.${index}.layer.1`, states);
      for (const [part, value] of cachedSource(graph, rows, config, present).entries()) {
        const { name, type, dims } = parts[part] as CachedTensor;
        const sizes = dims.map((size) => (size === 'length' ? 'source' : size));
        graph.output(value, `${name}.${index}`, type, ['batch', ...sizes]);
      }
    });
  }
  return { model: graph.build(), adapted: lora.adapted };
}

/** A section of the decoder: what its rows see of themselves and of their sources. */
interface T5Section {
  readonly view: Pick<SectionView, 'bias' | 'widths'>;
  /** [g, 1, 1, source] 0 or -inf. */
  readonly sourceMask: Value;
}

/**
 * Declares the masks of a section. `biasTable` [buckets + 1, H]; its last row is -inf, so that one index says both the
 * distance and what is masked.
 */
function declareT5Section(graph: GraphBuilder, name: SectionName, biasTable: Value): T5Section {
  const dim = (size: string): string => `${name}_${size}`;
  const index = graph.input(`${name}.self_bias_index`, 'int32', [dim('count'), dim('queries'), dim('keys')]);
  const bias = graph.node('Gather', [biasTable, index], { axis: 0 }); // [g, q, keys, H]
  return {
    view: {
      bias: graph.node('Transpose', [bias], { perm: [0, 3, 1, 2] }),
      widths: graph.input(`${name}.self_widths`, 'int64', [2]),
    },
    sourceMask: graph.input(`${name}.source_mask`, 'float32', [dim('count'), 1, 1, dim('source')]),
  };
}

/**
 * Inputs: token_embeddings [r, d]; section_sizes [2] (rows that are singles, rows that are in groups; in this order);
 * the sections' own (attention.ts).
 * Outputs: states [r, d]; new_cache [r, layers·2·H·dk] (keys, then values, of each layer).
 */
export function buildT5Decoder(
  config: T5Config,
  parameters: T5Parameters,
  targets: LoraTargets,
  int8?: Int8Format,
): AdaptableGraph {
  const graph = new GraphBuilder('t5-decoder');
  const lora = new RowLora(graph, targets);
  const weights = new ConstantWeights(
    graph,
    decoderConstants(config, parameters),
    config,
    createProducts(graph, int8),
    true,
  );
  const layers = new T5Layers(graph, config, weights, lora);
  const { fromHeads, toHeads } = layers.shapes;
  const embeddings = graph.input('token_embeddings', 'float32', ['rows', config.hiddenSize]);
  const table = weights.relativeBias('decoder');
  const isQuantized = int8 !== undefined;
  const sections = new DecodeSections(graph, {
    heads: config,
    layerCount: config.decoderLayerCount,
    source: t5SourceCache(config, isQuantized),
  });
  const views = {
    singles: declareT5Section(graph, 'singles', table),
    groups: declareT5Section(graph, 'groups', table),
  };
  const newCache: Value[] = [];
  let stream: Stream = { sum: embeddings, pending: undefined };
  for (let index = 0; index < config.decoderLayerCount; index++) {
    const path = `decoder.block.${index}.layer`;
    stream = graph.scope(`decoder/${index}`, () => {
      const attended = graph.scope('self', (): Stream => {
        const { normalized, sum } = layers.normalize(stream, `${path}.0.layer_norm`);
        const { queries, keys, values } = layers.queriesKeysValues(`${path}.0`, normalized);
        newCache.push(keys, values);
        const joined = sections.attend([queries, keys, values], (section, [q, k, v]) =>
          decodeSelfAttention(
            graph,
            section,
            { ...views[section.name].view, cached: [keysAndValues(section.selfCache(index))] },
            { queries: q as Value, keys: k as Value, values: v as Value },
          ),
        );
        return { sum, pending: layers.projectOne(joined, `${path}.0.SelfAttention.o`, fromHeads) };
      });
      const crossed = graph.scope('cross', (): Stream => {
        const { normalized, sum } = layers.normalize(attended, `${path}.1.layer_norm`);
        const queries = layers.projectOne(normalized, `${path}.1.EncDecAttention.q`, toHeads);
        const joined = sections.attend([queries], ({ name, layout, sourceCache }, [q]) => {
          const parts = {
            queries: layout.queries(q as Value),
            source: sourceCache(index),
            mask: views[name].sourceMask,
          };
          return layout.toRows(attendSource(graph, isQuantized, parts));
        });
        return { sum, pending: layers.projectOne(joined, `${path}.1.EncDecAttention.o`, fromHeads) };
      });
      return layers.feedForward(`${path}.2`, crossed);
    });
  }
  const states = layers.finish('decoder', stream);
  const cacheSize = newCache.length * toHeads.outSize;
  graph.output(graph.node('Concat', newCache, { axis: -1 }), 'new_cache', 'float32', ['rows', cacheSize]);
  graph.output(states, 'states', 'float32', ['rows', config.hiddenSize]);
  return { model: graph.build(), adapted: lora.adapted };
}

/** Attention to a source in the form that the cache has it. */
function attendSource(
  graph: GraphBuilder,
  isQuantized: boolean,
  { queries, source, mask }: { readonly queries: Value; readonly source: readonly Value[]; readonly mask: Value },
): Value {
  if (isQuantized) return attendQuantized(graph, queries, quantizedSource(source), mask);
  const { keys, values } = keysAndValues(source);
  return attend(graph, queries, keys, values, mask);
}

/** The constants of a decoder whose bias can mask, and whose last norm has taken in the scale of a tied head. */
function decoderConstants(config: T5Config, parameters: T5Parameters): ReadonlyMap<string, Float32Array> {
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
