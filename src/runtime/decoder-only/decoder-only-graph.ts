/**
 * A decoder-only model as one ONNX graph: new tokens of running rows, or a chunk of a prompt, → the states for the
 * output head (output-head/), and their own keys and values for the caller to keep. A chunk is a group whose queries
 * are its tokens, so that prompts and answers share one copy of the weights.
 *
 * The word embeddings are looked up by the caller: the graph and `embed` then share one table.
 */
import { invariant } from '../errors.ts';
import {
  DecodeSections,
  decodeSelfAttention,
  keysAndValues,
  type SectionName,
  type SectionView,
} from '../graph/attention.ts';
import { floatCache } from '../graph/cached-tensors.ts';
import { GraphBuilder, type Value } from '../graph/graph-builder.ts';
import { type Stream, splitLast } from '../graph/layers.ts';
import { type AdaptableGraph, type LoraTargets, RowLora } from '../graph/lora.ts';
import { createProducts, type MatrixProducts } from '../graph/matrix-products.ts';
import type { Int8Format } from '../graph/quantized-linear.ts';
import type { LinearModule } from '../models/linear-module.ts';
import type { DecoderOnlyConfig } from '../models/model-config.ts';
import { floatTensor } from '../tensor.ts';
import type { DecoderOnlyLayers, DecoderOnlyWeights, LayerParts } from './decoder-only-layers.ts';
import type { DecoderOnlyParameters } from './decoder-only-parameters.ts';
import { Gpt2Layers } from './gpt2-layers.ts';
import { LlamaLayers } from './llama-layers.ts';
import { rotateRows } from './rotary.ts';

/** Weights that a graph holds. Matrices that share an input lie under the path of the first of them, stacked. */
class ConstantWeights implements DecoderOnlyWeights {
  constructor(
    private readonly graph: GraphBuilder,
    private readonly tensors: ReadonlyMap<string, Float32Array>,
    private readonly multiply: MatrixProducts,
  ) {}

  products(x: Value, modules: readonly LinearModule[]): Value[] {
    const { graph } = this;
    const [{ path, inSize }] = modules as readonly [LinearModule];
    const data = this.data(`${path}.weight`);
    const y = this.multiply.product(x, path, data, inSize);
    if (modules.length === 1) return [y];
    return splitLast(
      graph,
      y,
      modules.map(({ outSize }) => outSize),
    );
  }

  vector(name: string): Value {
    const data = this.data(name);
    return this.graph.weight(name, floatTensor(data, [data.length]));
  }

  private data(name: string): Float32Array {
    const data = this.tensors.get(name);
    invariant(data !== undefined, `the weights of ${name} are there`);
    return data;
  }
}

function layersOf(parts: LayerParts<DecoderOnlyConfig>): DecoderOnlyLayers {
  const { graph, config } = parts;
  if (config.family === 'gpt2') return new Gpt2Layers({ ...parts, config });
  const places = graph.input('rotary_places', 'int64', ['rows', 1]);
  return new LlamaLayers({ ...parts, config, rotate: rotateRows(graph, config, places) });
}

/**
 * Inputs: token_embeddings [r, d]; rotary_places [r, 1] and the tables of rotary.ts; section_sizes [2] (rows that are singles,
 * rows that are in groups; in this order); the sections' own (attention.ts), and NAME.mask, which broadcasts to
 * [g, KV, G·q, source + positions + q], and NAME.widths [3].
 * Outputs: states [r, d]; new_cache [r, layers·2·KV·dk] (keys, then values, of each layer).
 */
export function buildDecoderOnlyGraph(
  config: DecoderOnlyConfig,
  { tensors }: DecoderOnlyParameters,
  targets: LoraTargets,
  int8?: Int8Format,
): AdaptableGraph {
  const graph = new GraphBuilder(`${config.family}-decoder`);
  const lora = new RowLora(graph, targets);
  const embeddings = graph.input('token_embeddings', 'float32', ['rows', config.hiddenSize]);
  const layers = layersOf({
    graph,
    config,
    lora,
    weights: new ConstantWeights(graph, tensors, createProducts(graph, int8)),
  });
  const sections = new DecodeSections(graph, {
    heads: config,
    layerCount: config.layerCount,
    source: floatCache('source', config),
  });
  const views = { singles: declareView(graph, 'singles', config), groups: declareView(graph, 'groups', config) };
  const newCache: Value[] = [];
  let stream: Stream = { sum: embeddings, pending: undefined };
  for (let block = 0; block < config.layerCount; block++) {
    stream = graph.scope(`decoder/${block}`, () => {
      const { queries, keys, values, sum } = layers.attentionInputs(block, stream);
      newCache.push(keys, values);
      const attended = sections.attend([queries, keys, values], (section, [q, k, v]) =>
        decodeSelfAttention(
          graph,
          section,
          { ...views[section.name], cached: [section.sourceCache(block), section.selfCache(block)].map(keysAndValues) },
          { queries: q as Value, keys: k as Value, values: v as Value },
        ),
      );
      return layers.feedForward(block, { sum, pending: layers.attentionOutput(block, attended) });
    });
  }
  const cacheSize = 2 * config.layerCount * config.keyValueHeadCount * config.headSize;
  graph.output(graph.node('Concat', newCache, { axis: -1 }), 'new_cache', 'float32', ['rows', cacheSize]);
  graph.output(layers.finish(stream), 'states', 'float32', ['rows', config.hiddenSize]);
  return { model: graph.build(), adapted: lora.adapted };
}

function declareView(
  graph: GraphBuilder,
  name: SectionName,
  { headSize }: DecoderOnlyConfig,
): Omit<SectionView, 'cached'> {
  const dim = (size: string): string => `${name}_${size}`;
  return {
    bias: graph.input(`${name}.mask`, 'float32', [dim('count'), 1, dim('mask_rows'), dim('mask_width')]),
    widths: graph.input(`${name}.widths`, 'int64', [3]),
    scale: headSize ** -0.5,
  };
}
