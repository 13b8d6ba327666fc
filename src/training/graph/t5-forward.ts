/**
 * T5 with teacher forcing (Raffel et al. 2020, https://arxiv.org/abs/1910.10683), in serving's own layers.
 *
 * Inputs beside the weights: source_embeddings [b, s, d], target_embeddings [b, t, d]; source_buckets [s, s],
 *   target_buckets [t, t]; source_mask [b, 1, 1, s], causal_mask [1, 1, t, t] (0 or -inf).
 */
import { attend, mergeHeads, splitHeads } from '../../runtime/graph/attention.ts';
import type { GraphBuilder, Value } from '../../runtime/graph/graph-builder.ts';
import type { Stream } from '../../runtime/graph/layers.ts';
import type { T5Config } from '../../runtime/models/model-config.ts';
import { T5Layers } from '../../runtime/t5/t5-layers.ts';
import { floatTensor } from '../../runtime/tensor.ts';
import { BlockRanges, type ForwardParts, type TeacherForcing } from './teacher-forcing.ts';
import { T5Inputs } from './trained-layers.ts';

export function t5Forward(config: T5Config, { graph, inputs, lora }: ForwardParts): TeacherForcing {
  const layers = new T5Layers(graph, config, new T5Inputs(graph, inputs), lora);
  const embed = (name: 'source' | 'target'): Value =>
    graph.input(`${name}_embeddings`, 'float32', ['batch', name, config.hiddenSize]);
  const embedded = { source: embed('source'), target: embed('target') };
  const mask = graph.input('source_mask', 'float32', ['batch', 1, 1, 'source']);
  const blocks = new BlockRanges(graph);
  const writer = new T5Writer(graph, config, layers, mask, blocks);
  const states = writer.decode(embedded.target, writer.encode(embedded.source));
  return { states: scaled(graph, config, states), embedded: [embedded.source, embedded.target], blocks: blocks.ranges };
}

/** What a tied head of v1.0 reads. */
function scaled(graph: GraphBuilder, { scaleDecoderOutput, hiddenSize }: T5Config, states: Value): Value {
  if (!scaleDecoderOutput) return states;
  const scale = graph.weight('scale', floatTensor(new Float32Array([hiddenSize ** -0.5]), []));
  return graph.node('Mul', [states, scale]);
}

class T5Writer {
  constructor(
    private readonly graph: GraphBuilder,
    private readonly config: T5Config,
    private readonly layers: T5Layers,
    /** [b, 1, 1, s] */
    private readonly sourceMask: Value,
    private readonly blocks: BlockRanges,
  ) {}

  /** [b, s, d] */
  encode(embeddings: Value): Value {
    const { graph, layers, sourceMask, blocks } = this;
    const relative = layers.relativeBias('encoder', graph.input('source_buckets', 'int32', ['source', 'source']));
    const bias = graph.node('Add', [relative, sourceMask]);
    return layers.encode(embeddings, bias, (build) => blocks.block(build));
  }

  /** [b, t, d] */
  decode(embeddings: Value, source: Value): Value {
    const { graph, layers, config, blocks } = this;
    const relative = layers.relativeBias('decoder', graph.input('target_buckets', 'int32', ['target', 'target']));
    const causal = graph.input('causal_mask', 'float32', [1, 1, 'target', 'target']);
    const bias = graph.node('Add', [relative, causal]);
    let stream: Stream = { sum: embeddings, pending: undefined };
    for (let index = 0; index < config.decoderLayerCount; index++) {
      const path = `decoder.block.${index}.layer`;
      stream = blocks.block(() =>
        graph.scope(`decoder/${index}`, () => {
          const attended = layers.selfAttention(`${path}.0`, stream, bias);
          return layers.feedForward(`${path}.2`, this.crossAttention(`${path}.1`, attended, source));
        }),
      );
    }
    return layers.finish('decoder', stream);
  }

  private crossAttention(path: string, stream: Stream, source: Value): Stream {
    const { graph, layers, config, sourceMask } = this;
    const { fromHeads, toHeads } = layers.shapes;
    return graph.scope('cross', () => {
      const { normalized, sum } = layers.normalize(stream, `${path}.layer_norm`);
      const rows = layers.sourceKeysValues(path, source);
      const asked = layers.projectOne(normalized, `${path}.EncDecAttention.q`, toHeads);
      const [keys, values, queries] = [rows.keys, rows.values, asked].map((x) => splitHeads(graph, x, config)) as [
        Value,
        Value,
        Value,
      ];
      const merged = mergeHeads(graph, attend(graph, queries, keys, values, sourceMask), config);
      return { sum, pending: layers.projectOne(merged, `${path}.EncDecAttention.o`, fromHeads) };
    });
  }
}
