/** Reverse mode of layer norms, alone and joined with the sum that they read. */
import { invariant } from '../errors.ts';
import { type BackwardNode, type GradientRule, type GradientTape, once, outputGradient } from './gradient-rule.ts';
import type { Value } from './graph-builder.ts';

/** One norm on the way back. */
interface Norm {
  readonly node: BackwardNode;
  readonly tape: GradientTape;
  readonly x: Value;
  /** [d] */
  readonly weight: Value;
  readonly gradient: Value;
}

/** How to make the gradients of x and of the tensors of the norm, in the order of its inputs. */
type NormGradients = readonly [ofX: () => Value, ...ofTensors: (() => Value)[]];

function sizeOf({ node, tape, weight }: Norm): number {
  const size = tape.dims(weight)[0];
  invariant(typeof size === 'number', `${node.name} has rows of a fixed size`);
  return size;
}

/** 1 / sqrt(mean(x²) + epsilon) of each row. */
function reciprocalScale({ node, tape }: Norm, x: Value, size: number): Value {
  const { epsilon } = node.attributes;
  invariant(typeof epsilon === 'object' && 'float' in epsilon, `${node.name} says its epsilon`);
  const squares = tape.node('ReduceSumSquare', [x, tape.graph.integers(-1)], { keepdims: 1 });
  const mean = tape.node('Mul', [squares, tape.scalar(1 / size)]);
  return tape.node('Reciprocal', [tape.node('Sqrt', [tape.node('Add', [mean, tape.scalar(epsilon.float)])])]);
}

/**
 * y = x r w with r = 1 / sqrt(mean(x²) + epsilon), a number for each row. With h = g x:
 *   gradient of x: g w r − x r³ (h · w) / d          of w: Σ r h over the rows
 */
function rmsGradients(norm: Norm): NormGradients {
  const { tape, x, weight, gradient } = norm;
  const { graph } = tape;
  const size = sizeOf(norm);
  const scale = once(() => reciprocalScale(norm, x, size));
  const shared = once(() => tape.node('Mul', [gradient, x]));
  const ofX = (): Value => {
    const r = scale();
    const dots = tape.node('MatMul', [shared(), tape.node('Reshape', [weight, graph.integers(size, 1)])]);
    const cube = tape.node('Mul', [tape.node('Mul', [r, r]), tape.node('Mul', [r, tape.scalar(1 / size)])]);
    const straight = tape.node('Mul', [tape.node('Mul', [gradient, weight]), r]);
    return tape.node('Sub', [straight, tape.node('Mul', [x, tape.node('Mul', [dots, cube])])]);
  };
  const ofWeight = (): Value => {
    const rows = tape.node('Reshape', [shared(), graph.integers(-1, size)]);
    const factors = tape.node('Reshape', [scale(), graph.integers(1, -1)]);
    return tape.node('Reshape', [tape.node('MatMul', [factors, rows]), graph.integers(size)]);
  };
  return [ofX, ofWeight];
}

/**
 * y = n w + b with n = (x − mean(x)) r, r = 1 / sqrt(variance(x) + epsilon), a number for each row. With h = g w:
 *   gradient of x: r (h − mean(h) − n mean(h n))          of w: Σ g n over the rows          of b: Σ g
 */
function layerNormGradients(norm: Norm): NormGradients {
  const { tape, x, weight, gradient } = norm;
  const { graph } = tape;
  const size = sizeOf(norm);
  const mean = (value: Value): Value => tape.node('ReduceMean', [value, graph.integers(-1)], { keepdims: 1 });
  const centered = once(() => tape.node('Sub', [x, mean(x)]));
  const scale = once(() => reciprocalScale(norm, centered(), size));
  const normalized = once(() => tape.node('Mul', [centered(), scale()]));
  const ofX = (): Value => {
    const h = tape.node('Mul', [gradient, weight]);
    const along = tape.node('Mul', [normalized(), mean(tape.node('Mul', [h, normalized()]))]);
    const across = tape.node('Sub', [tape.node('Sub', [h, mean(h)]), along]);
    return tape.node('Mul', [across, scale()]);
  };
  const overRows = (value: Value): Value =>
    tape.node('ReduceSum', [tape.node('Reshape', [value, graph.integers(-1, size)]), graph.integers(0)], {
      keepdims: 0,
    });
  return [ofX, () => overRows(tape.node('Mul', [gradient, normalized()])), () => overRows(gradient)];
}

/** Inputs: x, then the tensors of the norm. */
function alone(gradientsOf: (norm: Norm) => NormGradients): GradientRule {
  return (node, tape) => {
    const [x, weight] = node.inputs as readonly Value[] as [Value, Value];
    return gradientsOf({ node, tape, x, weight, gradient: outputGradient(node) });
  };
}

/** Inputs: x, residual, then the tensors of the norm; outputs: the norm of x + residual, two not used, x + residual. */
function ofSum(gradientsOf: (norm: Norm) => NormGradients): GradientRule {
  return (node, tape) => {
    const [, , ...tensors] = node.inputs;
    const sum = node.outputs[3] as Value;
    const [gradient, , , gradientOfSum] = node.gradients;
    if (gradient === undefined) {
      const passed = (): Value => gradientOfSum as Value;
      return [passed, passed, ...tensors.map((tensor) => () => tape.zerosLike(tensor))];
    }
    const [ofX, ...ofTensors] = gradientsOf({ node, tape, x: sum, weight: tensors[0] as Value, gradient });
    const both = once(() => (gradientOfSum === undefined ? ofX() : tape.node('Add', [ofX(), gradientOfSum])));
    return [both, both, ...ofTensors];
  };
}

export const normGradients: Readonly<Record<string, GradientRule>> = {
  LayerNormalization: alone(layerNormGradients),
  SimplifiedLayerNormalization: alone(rmsGradients),
  SkipLayerNormalization: ofSum(layerNormGradients),
  SkipSimplifiedLayerNormalization: ofSum(rmsGradients),
};
