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
  DecodeSections,
  decodeSelfAttention,
  keysAndValues,
  type SectionView,
  sectionWidths,
  splitHeads,
} from '../graph/attention.ts';
import { type CachedTensor, floatCache, quantizedSourceCache } from '../graph/cached-tensors.ts';
import { GraphBuilder, type Value } from '../graph/graph-builder.ts';
import { type AdaptableGraph, type LoraTargets, RowLora, RunLora } from '../graph/lora.ts';
import { createProducts } from '../graph/matrix-products.ts';
import { attendQuantized, quantizedSource, quantizeSource } from '../graph/quantized-attention.ts';
import type { Int8Format } from '../graph/quantized-linear.ts';
import type { T5Config } from '../models/model-config.ts';
import { T5Layers } from './t5-layers.ts';
import type { T5Parameters } from './t5-parameters.ts';
import { ConstantWeights, constantsOf, decoderConstants } from './t5-weights.ts';

/** What is kept of a source: in 8 bits where the weights are. */
export function t5SourceCache(config: T5Config, isQuantized: boolean): readonly CachedTensor[] {
  return isQuantized ? quantizedSourceCache(config) : floatCache('source', config);
}

/** [b, s, 1]: 1 where the mask [b, 1, 1, s] is 0, 0 where it is -inf. */
function presentOf(graph: GraphBuilder, mask: Value): Value {
  return graph.node('Reshape', [graph.node('Exp', [mask]), graph.integers(0, -1, 1)]);
}

/** The keys and values of one layer as they are cached, of [b, s, H·dk]; `present`: in 8 bits, as quantizeSource takes it. */
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
 * Declares the encoder's inputs, source_embeddings [b, s, d], relative_buckets [s, s] and source_mask [b, 1, 1, s] (0 or
 * -inf), and its output, states [b, s, d].
 */
export function declareEncoder(
  graph: GraphBuilder,
  { hiddenSize }: T5Config,
  layers: T5Layers,
): { readonly states: Value; readonly mask: Value } {
  const embeddings = graph.input('source_embeddings', 'float32', ['batch', 'source', hiddenSize]);
  const relativeBias = layers.relativeBias('encoder', graph.input('relative_buckets', 'int32', ['source', 'source']));
  const mask = graph.input('source_mask', 'float32', ['batch', 1, 1, 'source']);
  const states = layers.encode(embeddings, graph.node('Add', [relativeBias, mask]));
  graph.output(states, 'states', 'float32', ['batch', 'source', hiddenSize]);
  return { states, mask };
}

/**
 * `int8` undefined: float32. b is 1 in 8 bits.
 * Outputs beside states: NAME.N, a tensor of `t5SourceCache` [b, …], for every decoder layer N.
 */
export function buildT5Encoder(
  config: T5Config,
  parameters: T5Parameters,
  targets: LoraTargets,
  int8?: Int8Format,
): AdaptableGraph {
  const graph = new GraphBuilder('t5-encoder');
  const lora = new RunLora(graph, targets);
  const products = createProducts(graph, int8 ?? 'float32', true);
  const weights = new ConstantWeights(graph, constantsOf(config, parameters), config, products, false);
  const layers = new T5Layers(graph, config, weights, lora);
  const { states, mask } = declareEncoder(graph, config, layers);
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
function declareT5Section(graph: GraphBuilder, section: DecodeSection, biasTable: Value): T5Section {
  const { name } = section;
  const dim = (size: string): string => `${name}_${size}`;
  const index = graph.input(`${name}.self_bias_index`, 'int32', [dim('count'), dim('queries'), dim('keys')]);
  const bias = graph.node('Gather', [biasTable, index], { axis: 0 }); // [g, q, keys, H]
  return {
    view: {
      bias: graph.node('Transpose', [bias], { perm: [0, 3, 1, 2] }),
      widths: sectionWidths(graph, section, [keysAndValues(section.selfCache(0)).keys]),
    },
    sourceMask: graph.input(`${name}.source_mask`, 'float32', [dim('count'), 1, 1, dim('source')]),
  };
}

/**
 * Inputs: token_embeddings [r, d], rows that are singles before rows that are in groups; the sections' own
 * (attention.ts).
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
    createProducts(graph, int8 ?? 'float32'),
    true,
  );
  const layers = new T5Layers(graph, config, weights, lora);
  const embeddings = graph.input('token_embeddings', 'float32', ['rows', config.hiddenSize]);
  const table = weights.relativeBias('decoder');
  const isQuantized = int8 !== undefined;
  const sections = new DecodeSections(graph, {
    heads: config,
    layerCount: config.decoderLayerCount,
    source: t5SourceCache(config, isQuantized),
  });
  const views = {
    singles: declareT5Section(graph, sections.singles, table),
    groups: declareT5Section(graph, sections.groups, table),
  };
  const { states, rows } = layers.decode(embeddings, {
    self: (block, { queries, keys, values }) =>
      sections.attend([queries, keys, values], (section, [q, k, v]) =>
        decodeSelfAttention(
          graph,
          section,
          { ...views[section.name].view, cached: [keysAndValues(section.selfCache(block))] },
          { queries: q as Value, keys: k as Value, values: v as Value },
        ),
      ),
    cross: (block, rowQueries) =>
      sections.attend([rowQueries], ({ name, layout, sourceCache }, [q]) => {
        const queries = layout.queries(q as Value);
        const parts = { queries, source: sourceCache(block), mask: views[name].sourceMask };
        return layout.toRows(attendSource(graph, isQuantized, parts));
      }),
  });
  const newCache = rows.flatMap(({ keys, values }) => [keys, values]);
  const cacheSize = newCache.length * layers.shapes.toHeads.outSize;
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
