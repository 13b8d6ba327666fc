/**
 * A decoder-only model as one ONNX graph: new tokens of running rows, or a chunk of a prompt, → the states for the
 * output head (output-head/), and their own keys and values for the caller to keep. A chunk is a group whose queries
 * are its tokens, so that prompts and answers share one copy of the weights.
 *
 * The word embeddings are looked up by the caller: the graph and `embed` then share one table.
 */
import {
  type DecodeSection,
  DecodeSections,
  decodeSelfAttention,
  keysAndValues,
  type SectionView,
  sectionWidths,
} from '../graph/attention.ts';
import { floatCache } from '../graph/cached-tensors.ts';
import { GraphBuilder, type Value } from '../graph/graph-builder.ts';
import { type AdaptableGraph, type LoraTargets, RowLora } from '../graph/lora.ts';
import { createProducts, type MatrixFormat } from '../graph/matrix-products.ts';
import type { DecoderOnlyConfig } from '../models/model-config.ts';
import { type DecoderOnlyLayers, decodeBlocks, type LayerParts } from './decoder-only-layers.ts';
import type { DecoderOnlyParameters } from './decoder-only-parameters.ts';
import { ConstantWeights } from './decoder-only-weights.ts';
import { Gpt2Layers } from './gpt2-layers.ts';
import { LlamaLayers } from './llama-layers.ts';
import { rotaryTables, rotateRows } from './rotary.ts';

function layersOf(parts: LayerParts<DecoderOnlyConfig>): DecoderOnlyLayers {
  const { graph, config } = parts;
  if (config.family === 'gpt2') return new Gpt2Layers({ ...parts, config });
  const places = graph.input('rotary_places', 'int64', ['rows', 1]);
  return new LlamaLayers({ ...parts, config, rotate: rotateRows(graph, config, rotaryTables(graph, config), places) });
}

/**
 * Inputs: token_embeddings [r, d]; rotary_places [r, 1] and the tables of rotary.ts; rows that are
 * singles before rows that are in groups; the sections' own (attention.ts), and NAME.mask, which broadcasts to
 * [g, KV, G·q, source + positions + q].
 * Outputs: states [r, d]; new_cache [r, layers·2·KV·dk] (keys, then values, of each layer).
 */
export function buildDecoderOnlyGraph(
  config: DecoderOnlyConfig,
  { tensors }: DecoderOnlyParameters,
  targets: LoraTargets,
  format: MatrixFormat = 'float32',
): AdaptableGraph {
  const graph = new GraphBuilder(`${config.family}-decoder`);
  const lora = new RowLora(graph, targets);
  const embeddings = graph.input('token_embeddings', 'float32', ['rows', config.hiddenSize]);
  const layers = layersOf({
    graph,
    config,
    lora,
    weights: new ConstantWeights(graph, tensors, createProducts(graph, format)),
  });
  const sections = new DecodeSections(graph, {
    heads: config,
    layerCount: config.layerCount,
    source: floatCache('source', config),
  });
  const views = {
    singles: declareView(graph, sections.singles, config),
    groups: declareView(graph, sections.groups, config),
  };
  const { states, rows } = decodeBlocks(graph, layers, { embeddings, blockCount: config.layerCount }, (block, own) =>
    sections.attend([own.queries, own.keys, own.values], (section, [q, k, v]) =>
      decodeSelfAttention(
        graph,
        section,
        { ...views[section.name], cached: [section.sourceCache(block), section.selfCache(block)].map(keysAndValues) },
        { queries: q as Value, keys: k as Value, values: v as Value },
      ),
    ),
  );
  const newCache = rows.flatMap(({ keys, values }) => [keys, values]);
  const cacheSize = 2 * config.layerCount * config.keyValueHeadCount * config.headSize;
  graph.output(graph.node('Concat', newCache, { axis: -1 }), 'new_cache', 'float32', ['rows', cacheSize]);
  graph.output(states, 'states', 'float32', ['rows', config.hiddenSize]);
  return { model: graph.build(), adapted: lora.adapted };
}

function declareView(
  graph: GraphBuilder,
  section: DecodeSection,
  { headSize }: DecoderOnlyConfig,
): Omit<SectionView, 'cached'> {
  const { name } = section;
  const dim = (size: string): string => `${name}_${size}`;
  const cached = [section.sourceCache(0), section.selfCache(0)];
  return {
    bias: graph.input(`${name}.mask`, 'float32', [dim('count'), 1, dim('mask_rows'), dim('mask_width')]),
    widths: sectionWidths(
      graph,
      section,
      cached.map((part) => keysAndValues(part).keys),
    ),
    scale: headSize ** -0.5,
  };
}
