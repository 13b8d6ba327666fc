/** T5's decoder as a loop of steps (decode-loop/), with the encoder's states as what is kept of a source. */
import { declareDecodeLoop, type LoopStep } from '../decode-loop/build-decode-loop.ts';
import { ReplacedLogits } from '../decode-loop/loop-heads.ts';
import { JoinedSources } from '../decode-loop/row-caches.ts';
import { attend, decodeSelfAttention, type KeysAndValues, singlesLayout, splitHeads } from '../graph/attention.ts';
import { stateCache } from '../graph/cached-tensors.ts';
import { GraphBuilder, type Value } from '../graph/graph-builder.ts';
import { type AdaptableGraph, type LoraTargets, RowLora, RunLora, SourceLora } from '../graph/lora.ts';
import { createFloatingProducts, type FloatFormat } from '../graph/matrix-products.ts';
import { HEAD_PATH } from '../models/linear-module.ts';
import type { T5Config } from '../models/model-config.ts';
import { floatTensor } from '../tensor.ts';
import { decoderBuckets } from './relative-buckets.ts';
import { declareEncoder } from './t5-graphs.ts';
import { T5Layers } from './t5-layers.ts';
import type { T5Parameters } from './t5-parameters.ts';
import { ConstantWeights, constantsOf, decoderConstants } from './t5-weights.ts';

/** The feed-forward's second matrix: what it gives leaves the range of float16 in published models, so it is kept from it. */
function staysFloat32(name: string): boolean {
  return name.endsWith('.wo');
}

/** Elements of the matrices that stay in float32. */
export function float32Count({ encoderLayerCount, decoderLayerCount, hiddenSize, feedForwardSize }: T5Config): number {
  return (encoderLayerCount + decoderLayerCount) * hiddenSize * feedForwardSize;
}

/** The encoder alone, with states as its output (`declareEncoder`). */
export function buildT5StateEncoder(
  config: T5Config,
  parameters: T5Parameters,
  targets: LoraTargets,
  format: FloatFormat,
): AdaptableGraph {
  const graph = new GraphBuilder('t5-state-encoder');
  const lora = new RunLora(graph, targets);
  const products = createFloatingProducts(graph, format, staysFloat32);
  const weights = new ConstantWeights(graph, constantsOf(config, parameters), config, products, false);
  declareEncoder(graph, config, new T5Layers(graph, config, weights, lora));
  return { model: graph.build(), adapted: lora.adapted };
}

/**
 * Inputs beside those of decode-loop/ (build-decode-loop.ts, loop-heads.ts): row_sources int32 [rows], the request of each
 * row among those of both sections; source_mask [rows, 1, 1, s], 0 or -inf.
 */
export function buildT5Loop(
  config: T5Config,
  parameters: T5Parameters,
  targets: LoraTargets,
  format: FloatFormat,
): AdaptableGraph {
  const graph = new GraphBuilder('t5-decode-loop');
  const products = createFloatingProducts(graph, format, staysFloat32);
  const weights = new ConstantWeights(graph, decoderConstants(config, parameters), config, products, true);
  const lora = new RowLora(graph, targets);
  const sourceLora = new SourceLora(graph, targets);
  const layers = new T5Layers(graph, config, weights, lora);
  const sources = readSources(graph, config, new T5Layers(graph, config, weights, sourceLora));
  const sourceMask = graph.input('source_mask', 'float32', ['rows', 1, 1, 'source']);
  const layout = singlesLayout(graph, config);
  const replaced = new ReplacedLogits(graph, config);
  const { vocabularySize, hiddenSize, eosTokenIds, decoderLayerCount } = config;
  const prepare = (places: Value): LoopStep => {
    const widths = graph.node('Concat', [graph.size(places, 1), graph.integers(1)], { axis: 0 });
    return ({ tokens, position, isSeen, caches }) => {
      const bias = selfBias(graph, config, parameters, { position, places, isSeen });
      const { states, rows } = layers.decode(products.rows(tokens, 'embeddings', parameters.embeddings, hiddenSize), {
        self: (block, own) =>
          decodeSelfAttention(graph, { layout }, { bias, widths, cached: [caches[block] as KeysAndValues] }, own),
        cross: (block, queries) => {
          const { keys, values } = sources[block] as KeysAndValues;
          return layout.toRows(attend(graph, layout.queries(queries), keys, values, sourceMask));
        },
      });
      const own = replaced.replace(states, products.product(states, 'head', parameters.head, hiddenSize));
      const logits = lora.adapt(HEAD_PATH, states, own, { inSize: hiddenSize, outSize: vocabularySize });
      return { logits, fresh: rows };
    };
  };
  declareDecodeLoop(graph, { heads: config, layerCount: decoderLayerCount, vocabularySize, eosTokenIds, prepare });
  return { model: graph.build(), adapted: [...lora.adapted, ...sourceLora.adapted] };
}

/** The keys and values [rows, H, s, dk] of every block, made once for all turns: states are less than they to hand over. */
function readSources(graph: GraphBuilder, config: T5Config, layers: T5Layers): readonly KeysAndValues[] {
  const [states] = new JoinedSources(graph, stateCache(config)).layer(0);
  const rowSources = graph.input('row_sources', 'int32', ['rows']);
  return Array.from({ length: config.decoderLayerCount }, (_, block) =>
    graph.scope(`decoder/${block}/source`, () => {
      const rows = layers.sourceKeysValues(`decoder.block.${block}.layer.1`, states as Value);
      const ofRows = (x: Value): Value => graph.node('Gather', [splitHeads(graph, x, config), rowSources], { axis: 0 });
      return { keys: ofRows(rows.keys), values: ofRows(rows.values) };
    }),
  );
}

/** [rows, H, 1, C + 1]: by the distance to each place of the cache, -inf where it is not seen; then to the token itself. */
function selfBias(
  graph: GraphBuilder,
  { headCount, relativeBucketCount, relativeMaxDistance }: T5Config,
  { decoder }: T5Parameters,
  { position, places, isSeen }: { readonly position: Value; readonly places: Value; readonly isSeen: Value },
): Value {
  const table = new Float32Array((relativeMaxDistance + 2) * headCount).fill(Number.NEGATIVE_INFINITY);
  // all distances from there on share the last bucket
  for (const [distance, bucket] of decoderBuckets(
    relativeMaxDistance + 1,
    relativeBucketCount,
    relativeMaxDistance,
  ).entries()) {
    table.set(decoder.relativeBias.subarray(bucket * headCount, (bucket + 1) * headCount), distance * headCount);
  }
  const biases = graph.constant('bias_by_distance', floatTensor(table, [relativeMaxDistance + 2, headCount]));
  const distance = graph.node('Min', [graph.node('Sub', [position, places]), graph.integers(relativeMaxDistance)]);
  const index = graph.node('Where', [isSeen, distance, graph.integers(relativeMaxDistance + 1)]);
  const toItself = graph.node('Sub', [position, position]);
  const all = graph.node('Concat', [index, toItself], { axis: 1 }); // [rows, C + 1]
  const byHead = graph.node('Transpose', [graph.node('Gather', [biases, all], { axis: 0 })], { perm: [0, 2, 1] });
  return graph.node('Unsqueeze', [byHead, graph.integers(2)]);
}
