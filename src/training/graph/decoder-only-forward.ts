/**
 * A decoder-only model over whole texts, prompt and answer at once, in serving's own layers.
 *
 * Inputs beside the weights: token_embeddings [b, t, d], positions [b, t], rotary_cosines and rotary_sines [t, dk/2] where they are rotary, causal_mask [1, 1, t, t] (0 or -inf).
 */
import type { AttentionInputs, DecoderOnlyLayers, LayerParts } from '../../runtime/decoder-only/decoder-only-layers.ts';
import { Gpt2Layers } from '../../runtime/decoder-only/gpt2-layers.ts';
import { LlamaLayers } from '../../runtime/decoder-only/llama-layers.ts';
import { rotaryTables, rotateSequences } from '../../runtime/decoder-only/rotary.ts';
import type { GraphBuilder, Value } from '../../runtime/graph/graph-builder.ts';
import type { Stream } from '../../runtime/graph/layers.ts';
import type { DecoderOnlyConfig } from '../../runtime/models/model-config.ts';
import { BlockRanges, type ForwardParts, type TeacherForcing } from './teacher-forcing.ts';
import { DecoderOnlyInputs } from './trained-layers.ts';

const POSITION_EMBEDDINGS = 'transformer.wpe.weight';

export function decoderOnlyForward(config: DecoderOnlyConfig, parts: ForwardParts): TeacherForcing {
  const { graph, inputs, lora } = parts;
  const embedded = graph.input('token_embeddings', 'float32', ['batch', 'tokens', config.hiddenSize]);
  const positions = graph.input('positions', 'int64', ['batch', 'tokens']);
  const mask = graph.input('causal_mask', 'float32', [1, 1, 'tokens', 'tokens']);
  const weights = new DecoderOnlyInputs(graph, inputs, config);
  const layers = layersOf({ graph, config, weights, lora }, positions);
  const blocks = new BlockRanges(graph);
  let stream: Stream = { sum: withPositions(config, parts, embedded, positions), pending: undefined };
  for (let block = 0; block < config.layerCount; block++) {
    stream = blocks.block(() =>
      graph.scope(`decoder/${block}`, () => {
        const { sum, ...read } = layers.attentionInputs(block, stream);
        const attended = graph.scope('self', () => attendCausally(graph, config, read, mask));
        return layers.feedForward(block, { sum, pending: layers.attentionOutput(block, attended) });
      }),
    );
  }
  return { states: layers.finish(stream), embedded: [embedded], blocks: blocks.ranges };
}

function layersOf(parts: LayerParts<DecoderOnlyConfig>, positions: Value): DecoderOnlyLayers {
  const { graph, config } = parts;
  if (config.family === 'gpt2') return new Gpt2Layers({ ...parts, config });
  return new LlamaLayers({ ...parts, config, rotate: rotateSequences(graph, rotaryTables(graph, config), positions) });
}

/** GPT-2's learned positions are added to the words. */
function withPositions(
  { family }: DecoderOnlyConfig,
  { graph, inputs }: ForwardParts,
  embedded: Value,
  positions: Value,
): Value {
  if (family !== 'gpt2') return embedded;
  const table = inputs.tensor(POSITION_EMBEDDINGS);
  return graph.node('Add', [embedded, graph.node('Gather', [table, positions], { axis: 0 })]);
}

/**
 * Queries [b, t, H·dk], keys and values [b, t, KV·dk] → [b, t, H·dk]. G = H / KV heads of queries read one head of keys:
 *   [b, KV, G, t, dk] × [b, KV, 1, t, dk]ᵀ
 */
function attendCausally(
  graph: GraphBuilder,
  { headCount, keyValueHeadCount, headSize }: DecoderOnlyConfig,
  { queries, keys, values }: AttentionInputs,
  mask: Value,
): Value {
  const split = (x: Value, shared: number): Value => {
    const heads = graph.node('Reshape', [x, graph.integers(0, 0, keyValueHeadCount, shared, headSize)]);
    return graph.node('Transpose', [heads], { perm: [0, 2, 3, 1, 4] });
  };
  const scale = { transB: 1, alpha: { float: headSize ** -0.5 } };
  const scores = graph.node('FusedMatMul', [split(queries, headCount / keyValueHeadCount), split(keys, 1)], scale);
  const probabilities = graph.node('Softmax', [graph.node('Add', [scores, mask])], { axis: -1 });
  const attended = graph.node('MatMul', [probabilities, split(values, 1)]);
  const merged = graph.node('Transpose', [attended], { perm: [0, 3, 1, 2, 4] });
  return graph.node('Reshape', [merged, graph.integers(0, 0, headCount * headSize)]);
}
