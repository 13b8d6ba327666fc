/**
 * A model's training step as one ONNX graph: forward with teacher forcing, loss and backward. The layers are those of
 * serving; weights are inputs, so that an optimizer changes them in place.
 *
 * Inputs beside the weights: those of the family's way forward (t5-forward.ts, decoder-only-forward.ts); label_rows
 *   [labels] (of all places of the batch), label_ids [labels]; chunk_sizes [chunks].
 * Outputs: losses [labels]; NAME.gradient of every tensor that is trained, of the sum of the losses.
 */
import { addGradients } from '../../runtime/graph/gradient.ts';
import { GraphBuilder, type Value } from '../../runtime/graph/graph-builder.ts';
import { linear } from '../../runtime/graph/layers.ts';
import type { OnnxModel } from '../../runtime/graph/model-proto.ts';
import { HEAD_PATH } from '../../runtime/models/linear-module.ts';
import type { ModelConfig } from '../../runtime/models/model-config.ts';
import { embeddingsName, linearModules, tensorShapes } from '../../runtime/models/model-modules.ts';
import { decoderOnlyForward } from './decoder-only-forward.ts';
import { t5Forward } from './t5-forward.ts';
import type { ForwardParts, TeacherForcing } from './teacher-forcing.ts';
import { addTokenLoss } from './token-loss.ts';
import { TrainedLora, WeightInputs } from './trained-layers.ts';
import { factorShapes, type TrainingMethod } from './training-method.ts';

export interface TrainingGraphShape {
  readonly config: ModelConfig;
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
  /** Names of the tensors whose gradients come out; those of embedded tokens come by token, under their input's name. */
  readonly trained: readonly string[];
}

export function gradientOutput(name: string): string {
  return `${name}.gradient`;
}

/** Names and shapes of the weights and of the factors. */
function trainingTensors({ config, tied, method }: TrainingGraphShape): ReadonlyMap<string, readonly number[]> {
  const shapes = new Map(tensorShapes(config));
  if (!tied) shapes.set(`${HEAD_PATH}.weight`, [config.vocabularySize, config.hiddenSize]);
  if (method.method === 'full') return shapes;
  return new Map([...shapes, ...factorShapes(method, linearModules(config))]);
}

export function buildTrainingGraph(shape: TrainingGraphShape): BuiltTrainingGraph {
  const { graph, ...built } = writeTrainingGraph(shape);
  return { model: graph.build(), ...built };
}

/** The nodes of the graph, before they are a model. */
export function writeTrainingGraph(
  shape: TrainingGraphShape,
): Omit<BuiltTrainingGraph, 'model'> & { readonly graph: GraphBuilder } {
  const { config, method } = shape;
  const graph = new GraphBuilder(`${config.family}-training`);
  graph.writeInPlace();
  const shapes = trainingTensors(shape);
  const inputs = new WeightInputs(graph, shapes);
  const parts = { graph, inputs, lora: new TrainedLora(graph, inputs, method) };
  const forward = config.family === 't5' ? t5Forward(config, parts) : decoderOnlyForward(config, parts);
  const { losses, seeds } = addLoss(shape, parts, forward);
  graph.output(losses, 'losses', 'float32', ['labels']);
  const trained = shape.forwardOnly === true ? [] : addTrained(shape, parts, forward, seeds);
  const tensors = new Map(inputs.names.map((name) => [name, inputs.shape(name) ?? []]));
  return { graph, tensors, trained };
}

function addLoss(
  { config, tied, labelSmoothing = 0, lossChunks = 1 }: TrainingGraphShape,
  { graph, inputs, lora }: ForwardParts,
  { states }: TeacherForcing,
): ReturnType<typeof addTokenLoss> {
  const { hiddenSize, vocabularySize } = config;
  const rows = graph.node('Reshape', [states, graph.integers(-1, hiddenSize)]);
  const labelRows = graph.input('label_rows', 'int32', ['labels']);
  const head = inputs.tensor(tied ? embeddingsName(config) : `${HEAD_PATH}.weight`);
  const shape = { inSize: hiddenSize, outSize: vocabularySize };
  return graph.scope('loss', () =>
    addTokenLoss(graph, {
      states: graph.node('Gather', [rows, labelRows], { axis: 0 }),
      labelIds: graph.input('label_ids', 'int32', ['labels']),
      project: (part) => lora.adapt(HEAD_PATH, part, linear(graph, part, head), shape),
      vocabularySize,
      labelSmoothing,
      chunkSizes: graph.input('chunk_sizes', 'int64', [lossChunks]),
      chunkCount: lossChunks,
    }),
  );
}

/** Adds the way back; returns the names of the tensors that are trained. */
function addTrained(
  { config, method, recompute }: TrainingGraphShape,
  { graph, inputs }: ForwardParts,
  { embedded, blocks }: TeacherForcing,
  seeds: ReadonlyMap<Value, Value>,
): readonly string[] {
  const full = method.method === 'full';
  const trained = full ? inputs.names : [...factorShapes(method, linearModules(config)).keys()];
  const wanted = trained.map((name) => inputs.tensor(name));
  const gradients = addGradients(graph, {
    seeds,
    wanted: full ? [...wanted, ...embedded] : wanted,
    recomputed: recompute === true ? blocks : [],
  });
  for (const [value, gradient] of gradients) {
    graph.output(
      gradient,
      gradientOutput(value),
      'float32',
      inputs.shape(value) ?? ['batch', 'tokens', config.hiddenSize],
    );
  }
  return trained;
}
