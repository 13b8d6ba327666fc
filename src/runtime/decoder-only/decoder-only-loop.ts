/** A decoder-only model as a loop of steps (decode-loop/), after its prompt has been read. */
import { declareDecodeLoop, type LoopStep } from '../decode-loop/build-decode-loop.ts';
import { ReplacedLogits } from '../decode-loop/loop-heads.ts';
import { JoinedSources } from '../decode-loop/row-caches.ts';
import { decodeSelfAttention, type KeysAndValues, keysAndValues, singlesLayout } from '../graph/attention.ts';
import { floatCache } from '../graph/cached-tensors.ts';
import { GraphBuilder, type Value } from '../graph/graph-builder.ts';
import { type AdaptableGraph, type LoraTargets, RowLora } from '../graph/lora.ts';
import { createFloatingProducts, type FloatFormat, type FloatingProducts } from '../graph/matrix-products.ts';
import { HEAD_PATH } from '../models/linear-module.ts';
import type { DecoderOnlyConfig } from '../models/model-config.ts';
import { type DecoderOnlyLayers, decodeBlocks, type LayerParts } from './decoder-only-layers.ts';
import type { DecoderOnlyParameters } from './decoder-only-parameters.ts';
import { ConstantWeights } from './decoder-only-weights.ts';
import { Gpt2Layers } from './gpt2-layers.ts';
import { LlamaLayers } from './llama-layers.ts';
import { rotaryTables, rotateRows } from './rotary.ts';

/**
 * Inputs beside those of decode-loop/ (build-decode-loop.ts, loop-heads.ts): row_sources int32 [rows], the request of each
 * row among those of both sections; source_mask [rows, 1, 1, s], 0 or -inf; prompt_ends int64 [rows, 1], the position of
 * the prompt's last token, which is decoded first; and the tables of rotary.ts, from position 0 on.
 */
export function buildDecoderOnlyLoop(
  config: DecoderOnlyConfig,
  parameters: DecoderOnlyParameters,
  targets: LoraTargets,
  format: FloatFormat,
): AdaptableGraph {
  const graph = new GraphBuilder(`${config.family}-decode-loop`);
  const products = createFloatingProducts(graph, format);
  const lora = new RowLora(graph, targets);
  const parts = { graph, config, lora, weights: new ConstantWeights(graph, parameters.tensors, products) };
  const layersAt = layersByPosition(parts);
  const prompts = readPrompts(graph, config);
  const promptMask = graph.input('source_mask', 'float32', ['rows', 1, 1, 'source']);
  const promptEnds = graph.input('prompt_ends', 'int64', ['rows', 1]);
  const layout = singlesLayout(graph, config);
  const replaced = new ReplacedLogits(graph, config);
  const { hiddenSize, vocabularySize, layerCount, contextLength, eosTokenIds } = config;
  const scale = config.headSize ** -0.5;
  const prepare = (places: Value): LoopStep => {
    const lengths = [graph.size(promptMask, 3), graph.size(places, 1), graph.integers(1)];
    const widths = graph.node('Concat', lengths, { axis: 0 });
    return ({ tokens, position, isSeen, caches }) => {
      // a row that has ended may go on beyond the model's positions: nobody reads what comes of it
      const place = graph.node('Min', [graph.node('Add', [promptEnds, position]), graph.integers(contextLength - 1)]);
      const bias = selfBias(graph, promptMask, isSeen);
      const embeddings = embed(products, graph, parameters, { tokens, place, size: hiddenSize });
      const stream = { embeddings, blockCount: layerCount };
      const { states, rows } = decodeBlocks(graph, layersAt(place), stream, (block, own) => {
        const cached = [prompts[block] as KeysAndValues, caches[block] as KeysAndValues];
        return decodeSelfAttention(graph, { layout }, { bias, widths, cached, scale }, own);
      });
      const own = replaced.replace(states, products.product(states, 'head', parameters.head, hiddenSize));
      const logits = lora.adapt(HEAD_PATH, states, own, { inSize: hiddenSize, outSize: vocabularySize });
      return { logits, fresh: rows };
    };
  };
  declareDecodeLoop(graph, { heads: config, layerCount, vocabularySize, eosTokenIds, prepare });
  return { model: graph.build(), adapted: lora.adapted };
}

/** The family's layers for rows at these positions, int64 [rows, 1]. */
function layersByPosition(parts: LayerParts<DecoderOnlyConfig>): (place: Value) => DecoderOnlyLayers {
  const { graph, config } = parts;
  if (config.family === 'gpt2') return () => new Gpt2Layers({ ...parts, config });
  const tables = rotaryTables(graph, config);
  return (place) => new LlamaLayers({ ...parts, config, rotate: rotateRows(graph, config, tables, place) });
}

/** The keys and values of every block's prompts, [rows, KV, s, dk]. */
function readPrompts(graph: GraphBuilder, config: DecoderOnlyConfig): readonly KeysAndValues[] {
  const sources = new JoinedSources(graph, floatCache('source', config));
  const rowSources = graph.input('row_sources', 'int32', ['rows']);
  return Array.from({ length: config.layerCount }, (_, block) =>
    keysAndValues(sources.layer(block).map((source) => graph.node('Gather', [source, rowSources], { axis: 0 }))),
  );
}

/** [rows, size] */
function embed(
  products: FloatingProducts,
  graph: GraphBuilder,
  { embeddings, positionEmbeddings }: DecoderOnlyParameters,
  { tokens, place, size }: { readonly tokens: Value; readonly place: Value; readonly size: number },
): Value {
  const embedded = products.rows(tokens, 'embeddings', embeddings, size);
  if (positionEmbeddings === undefined) return embedded;
  const places = graph.node('Reshape', [place, graph.integers(-1)]);
  const positions = products.rows(places, 'position_embeddings', positionEmbeddings, size);
  return graph.node('Add', [embedded, positions]);
}

/** [rows, 1, 1, s + C + 1]: the prompt, what was decoded, and the token itself. */
function selfBias(graph: GraphBuilder, promptMask: Value, isSeen: Value): Value {
  const zero = graph.scalar('zero', 0);
  const decoded = graph.node('Where', [isSeen, zero, graph.scalar('negative_infinity', Number.NEGATIVE_INFINITY)]);
  const own = graph.node('Pad', [decoded, graph.integers(0, 0, 0, 1)]); // [rows, C + 1]
  return graph.node('Concat', [promptMask, graph.node('Unsqueeze', [own, graph.integers(1, 2)])], { axis: -1 });
}
