/** The layers that every transformer here is made of, as graph nodes. Matrices are stored as published: [out, in]. */
import type { GraphBuilder, Value } from './graph-builder.ts';

export type Activation = 'relu' | 'gelu-tanh' | 'gelu' | 'silu';

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
): { readonly normalized: Value; readonly sum: Value } {
  const outputs = graph.nodeWithOutputs(
    'SkipSimplifiedLayerNormalization',
    [x, residual, weight],
    { epsilon: { float: epsilon } },
    4,
  );
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

/** Splits the last axis into equal parts of `size`. */
export function splitLast(graph: GraphBuilder, x: Value, size: number, count: number): Value[] {
  const sizes = graph.integers(...Array.from({ length: count }, () => size));
  return graph.nodeWithOutputs('Split', [x, sizes], { axis: -1 }, count);
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
