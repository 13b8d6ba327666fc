/**
 * T5 with teacher forcing as one ONNX graph, forward, loss and backward (Raffel et al. 2020,
 * https://arxiv.org/abs/1910.10683). The layers are those of serving; weights are inputs, so that an optimizer changes
 * them in place.
 *
 * Inputs beside the weights: source_embeddings [b, s, d], target_embeddings [b, t, d]; source_buckets [s, s],
 *   target_buckets [t, t]; source_mask [b, 1, 1, s], causal_mask [1, 1, t, t] (0 or -inf); label_rows [labels] (of b·t),
 *   label_ids [labels]; chunk_sizes [chunks].
 * Outputs: losses [labels]; NAME.gradient of every tensor that is trained, of the sum of the losses.
 */
import { attend, mergeHeads, splitHeads } from '../../runtime/graph/attention.ts';
import { addGradients } from '../../runtime/graph/gradient.ts';
import { GraphBuilder, type Value } from '../../runtime/graph/graph-builder.ts';
import { linear, type Stream } from '../../runtime/graph/layers.ts';
import type { LoraLayer } from '../../runtime/graph/lora.ts';
import type { OnnxModel } from '../../runtime/graph/model-proto.ts';
import type { NodeRange } from '../../runtime/graph/recomputation.ts';
import { HEAD_PATH } from '../../runtime/models/linear-module.ts';
import type { T5Config } from '../../runtime/models/model-config.ts';
import { T5Layers } from '../../runtime/t5/t5-layers.ts';
import { t5LinearModules } from '../../runtime/t5/t5-modules.ts';
import { t5TensorShapes } from '../../runtime/t5/t5-tensors.ts';
import { floatTensor } from '../../runtime/tensor.ts';
import { addTokenLoss } from './token-loss.ts';
import { TrainedLora, WeightInputs } from './trained-layers.ts';
import { factorShapes, type TrainingMethod } from './training-method.ts';

export interface TrainingGraphShape {
  readonly config: T5Config;
  /** Whether the head is the embedding table. */
  readonly tied: boolean;
  readonly method: TrainingMethod;
  /** Share of every label's probability that is spread over all ids. Default 0. */
  readonly labelSmoothing?: number;
  /** Chunks that the label tokens are taken in, to keep fewer logits at a time. Default 1. */
  readonly lossChunks?: number;
  /** Whether the values inside a block are computed again on the way back instead of kept. Default false. */
  readonly recompute?: boolean;
  /** Whether the loss alone is wanted. Default false. */
  readonly forwardOnly?: boolean;
}

export interface BuiltTrainingGraph {
  readonly model: OnnxModel;
  /** Names and shapes of all tensors that runs feed: weights, and factors of the adapter. */
  readonly tensors: ReadonlyMap<string, readonly number[]>;
  /** Names of the tensors whose gradients come out; those of embedded tokens come by token, as `embeddingGradients`. */
  readonly trained: readonly string[];
}

export const EMBEDDINGS = 'shared.weight';
export const embeddingGradients = {
  source: 'source_embeddings.gradient',
  target: 'target_embeddings.gradient',
} as const;

export function gradientOutput(name: string): string {
  return `${name}.gradient`;
}

/** Names and shapes of the weights and of the factors. */
function trainingTensors({ config, tied, method }: TrainingGraphShape): ReadonlyMap<string, readonly number[]> {
  const shapes = new Map(t5TensorShapes(config));
  if (!tied) shapes.set(`${HEAD_PATH}.weight`, [config.vocabularySize, config.hiddenSize]);
  if (method.method === 'full') return shapes;
  return new Map([...shapes, ...factorShapes(method, t5LinearModules(config))]);
}

export function buildT5TrainingGraph(shape: TrainingGraphShape): BuiltTrainingGraph {
  const graph = new GraphBuilder('t5-training');
  graph.writeInPlace();
  const shapes = trainingTensors(shape);
  const inputs = new WeightInputs(graph, shapes);
  const writer = new TrainingGraphWriter(graph, shape, inputs);
  const embeddings = writer.embeddings();
  const ranges: NodeRange[] = [];
  const states = writer.decode(embeddings.target, writer.encode(embeddings.source, ranges), ranges);
  const { losses, seeds } = writer.loss(states);
  graph.output(losses, 'losses', 'float32', ['labels']);
  const tensors = (): BuiltTrainingGraph['tensors'] =>
    new Map(inputs.names.map((name) => [name, shapes.get(name) ?? []]));
  if (shape.forwardOnly === true) return { model: graph.build(), tensors: tensors(), trained: [] };
  const { config, method } = shape;
  const full = method.method === 'full';
  const trained = full ? inputs.names : [...factorShapes(method, t5LinearModules(config)).keys()];
  const wanted = trained.map((name) => inputs.tensor(name));
  const gradients = addGradients(graph, {
    seeds,
    wanted: full ? [...wanted, embeddings.source, embeddings.target] : wanted,
    recomputed: shape.recompute === true ? ranges : [],
  });
  for (const [value, gradient] of gradients) {
    const dims = shapes.get(value) ?? ['batch', 'tokens', config.hiddenSize];
    graph.output(gradient, gradientOutput(value), 'float32', dims);
  }
  return { model: graph.build(), tensors: tensors(), trained };
}

class TrainingGraphWriter {
  private readonly layers: T5Layers;
  private readonly lora: LoraLayer;

  constructor(
    private readonly graph: GraphBuilder,
    private readonly shape: TrainingGraphShape,
    private readonly inputs: WeightInputs,
  ) {
    this.lora = new TrainedLora(graph, inputs, shape.method);
    this.layers = new T5Layers(graph, shape.config, inputs, this.lora);
  }

  embeddings(): { readonly source: Value; readonly target: Value } {
    const { hiddenSize } = this.shape.config;
    return {
      source: this.graph.input('source_embeddings', 'float32', ['batch', 'source', hiddenSize]),
      target: this.graph.input('target_embeddings', 'float32', ['batch', 'target', hiddenSize]),
    };
  }

  /** [b, s, d]; adds the range of each block to `ranges`. */
  encode(embeddings: Value, ranges: NodeRange[]): Value {
    const { graph, layers } = this;
    const relative = layers.relativeBias('encoder', graph.input('source_buckets', 'int32', ['source', 'source']));
    const bias = graph.node('Add', [relative, this.sourceMask()]);
    let from = graph.recorded.nodes.length;
    return layers.encode(embeddings, bias, () => {
      const to = graph.recorded.nodes.length;
      ranges.push({ from, to });
      from = to;
    });
  }

  /** [b, t, d] */
  decode(embeddings: Value, source: Value, ranges: NodeRange[]): Value {
    const { graph, layers } = this;
    const relative = layers.relativeBias('decoder', graph.input('target_buckets', 'int32', ['target', 'target']));
    const causal = graph.input('causal_mask', 'float32', [1, 1, 'target', 'target']);
    const bias = graph.node('Add', [relative, causal]);
    let stream: Stream = { sum: embeddings, pending: undefined };
    for (let index = 0; index < this.shape.config.decoderLayerCount; index++) {
      const path = `decoder.block.${index}.layer`;
      const from = graph.recorded.nodes.length;
      stream = graph.scope(`decoder/${index}`, () => {
        const attended = layers.selfAttention(`${path}.0`, stream, bias);
        return layers.feedForward(`${path}.2`, this.crossAttention(`${path}.1`, attended, source));
      });
      ranges.push({ from, to: graph.recorded.nodes.length });
    }
    return layers.finish('decoder', stream);
  }

  loss(states: Value): ReturnType<typeof addTokenLoss> {
    const { graph, shape } = this;
    const { config, labelSmoothing = 0, lossChunks = 1 } = shape;
    const rows = graph.node('Reshape', [states, graph.integers(-1, config.hiddenSize)]);
    const labelRows = graph.input('label_rows', 'int32', ['labels']);
    const read = graph.node('Gather', [rows, labelRows], { axis: 0 });
    const scale = graph.weight('scale', floatTensor(new Float32Array([config.hiddenSize ** -0.5]), []));
    return graph.scope('loss', () =>
      addTokenLoss(graph, {
        states: config.scaleDecoderOutput ? graph.node('Mul', [read, scale]) : read,
        labelIds: graph.input('label_ids', 'int32', ['labels']),
        project: (part) => this.head(part),
        vocabularySize: config.vocabularySize,
        labelSmoothing,
        chunkSizes: graph.input('chunk_sizes', 'int64', [lossChunks]),
        chunkCount: lossChunks,
      }),
    );
  }

  private head(states: Value): Value {
    const { hiddenSize, vocabularySize } = this.shape.config;
    const weight = this.inputs.tensor(this.shape.tied ? EMBEDDINGS : `${HEAD_PATH}.weight`);
    const logits = linear(this.graph, states, weight);
    return this.lora.adapt(HEAD_PATH, states, logits, { inSize: hiddenSize, outSize: vocabularySize });
  }

  private crossAttention(path: string, stream: Stream, source: Value): Stream {
    const { graph, layers, shape } = this;
    const { fromHeads, toHeads } = layers.shapes;
    return graph.scope('cross', () => {
      const { normalized, sum } = layers.normalize(stream, `${path}.layer_norm`);
      const { keys, values } = layers.sourceKeysValues(path, source);
      const queries = splitHeads(
        graph,
        layers.projectOne(normalized, `${path}.EncDecAttention.q`, toHeads),
        shape.config,
      );
      const merged = mergeHeads(graph, attend(graph, queries, keys, values, this.sourceMask()), shape.config);
      return { sum, pending: layers.projectOne(merged, `${path}.EncDecAttention.o`, fromHeads) };
    });
  }

  private mask: Value | undefined;

  private sourceMask(): Value {
    this.mask ??= this.graph.input('source_mask', 'float32', ['batch', 1, 1, 'source']);
    return this.mask;
  }
}
