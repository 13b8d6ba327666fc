/** The layers that every transformer here is made of, as graph nodes. Matrices are stored as published: [out, in]. */
import type { GraphBuilder, Value } from './graph-builder.ts';

export type Activation = 'relu' | 'gelu-tanh' | 'gelu' | 'silu';

/** A residual stream: `sum` is what flows on, `pending` what the last layer adds to it. */
export interface Stream {
  readonly sum: Value;
  readonly pending: Value | undefined;
}

/** A stream that has been read: `normalized` goes into the next layer, `sum` past it. */
export interface ReadStream {
  readonly normalized: Value;
  readonly sum: Value;
}

/** x [..., in] × weightᵀ → [..., out]; the weight is [out, in] and is packed once when the session is made. */
export function linear(graph: GraphBuilder, x: Value, weight: Value): Value {
  return graph.node('FusedMatMul', [x, weight], { transB: 1 });
}

/** T5's layer norm: x / sqrt(mean(x²) + epsilon) × weight, no mean, no bias. */
export function rmsNorm(graph: GraphBuilder, x: Value, weight: Value, epsilon: number): Value {
  return graph.node('SimplifiedLayerNormalization', [x, weight], {
    axis: -1,
    epsilon: { float: epsilon },
    stash_type: 1,
  });
}

/** Returns x + residual, and its layer norm, from one node. */
export function addAndNormalize(
  graph: GraphBuilder,
  x: Value,
  residual: Value,
  weight: Value,
  epsilon: number,
): ReadStream {
  const outputs = graph.nodeWithOutputs(
    'SkipSimplifiedLayerNormalization',
    [x, residual, weight],
    { epsilon: { float: epsilon } },
    4,
  );
  const [normalized, , , sum] = outputs as [Value, Value, Value, Value];
  return { normalized, sum };
}

/** A layer norm's learned scale and shift, [d] each. */
export interface ScaleAndShift {
  readonly scale: Value;
  readonly shift: Value;
}

/** (x - mean) / sqrt(variance + epsilon) × scale + shift (Ba et al. 2016, https://arxiv.org/abs/1607.06450). */
export function layerNorm(graph: GraphBuilder, x: Value, { scale, shift }: ScaleAndShift, epsilon: number): Value {
  return graph.node('LayerNormalization', [x, scale, shift], { axis: -1, epsilon: { float: epsilon } });
}

/** As `addAndNormalize`, with a layer norm. */
export function addAndLayerNorm(
  graph: GraphBuilder,
  x: Value,
  residual: Value,
  { scale, shift }: ScaleAndShift,
  epsilon: number,
): ReadStream {
  const attributes = { epsilon: { float: epsilon } };
  const outputs = graph.nodeWithOutputs('SkipLayerNormalization', [x, residual, scale, shift], attributes, 4);
  const [normalized, , , sum] = outputs as [Value, Value, Value, Value];
  return { normalized, sum };
}

function activate(graph: GraphBuilder, x: Value, activation: Activation): Value {
  switch (activation) {
    case 'relu':
      return graph.node('Relu', [x]);
    case 'gelu-tanh':
      return graph.node('FastGelu', [x]);
    case 'gelu':
      return graph.node('Gelu', [x], { approximate: 'none' });
    case 'silu':
      return graph.node('QuickGelu', [x], { alpha: { float: 1 } });
    default:
      return activation satisfies never;
  }
}

/** Splits the last axis into parts of these sizes. */
export function splitLast(graph: GraphBuilder, x: Value, sizes: readonly number[]): Value[] {
  return graph.nodeWithOutputs('Split', [x, graph.integers(...sizes)], { axis: -1 }, sizes.length);
}

/** What the feed-forward's second matrix reads: the activation of the first, times `up` where it is gated. */
export function gatedActivation(
  graph: GraphBuilder,
  gate: Value,
  up: Value | undefined,
  activation: Activation,
): Value {
  const activated = activate(graph, gate, activation);
  return up === undefined ? activated : graph.node('Mul', [activated, up]);
}
