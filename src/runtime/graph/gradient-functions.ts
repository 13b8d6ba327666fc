/** Reverse mode of functions of one value, and of softmax. */
import { invariant } from '../errors.ts';
import { type BackwardNode, type GradientRule, type GradientTape, outputGradient } from './gradient-rule.ts';
import type { Value } from './graph-builder.ts';

/** y = f(x): gradient × f'(x), where `slope` may use x and y. */
function pointwise(slope: (tape: GradientTape, x: Value, y: Value, node: BackwardNode) => Value): GradientRule {
  return (node, tape) => [
    () => {
      const [x] = node.inputs as [Value];
      const [y] = node.outputs as [Value];
      return tape.node('Mul', [slope(tape, x, y, node), outputGradient(node)]);
    },
  ];
}

/** With y = x · s, s = sigmoid(u): y' = s + (y − y · s) · u', where u' is the slope of u. */
function gatedSlope(tape: GradientTape, y: Value, s: Value, slopeOfU: Value): Value {
  const rest = tape.node('Sub', [y, tape.node('Mul', [y, s])]);
  return tape.node('Add', [tape.node('Mul', [rest, slopeOfU]), s]);
}

const FAST_GELU_SCALE = 2 * Math.sqrt(2 / Math.PI);
const FAST_GELU_CUBIC = FAST_GELU_SCALE * 0.044715;

/** The tanh form of GELU is x · sigmoid(u), u = x (c + k x²). */
function fastGeluSlope(tape: GradientTape, x: Value, y: Value): Value {
  const squares = tape.node('Mul', [tape.node('Mul', [x, x]), tape.scalar(FAST_GELU_CUBIC)]); // k x²
  const u = tape.node('Mul', [tape.node('Add', [squares, tape.scalar(FAST_GELU_SCALE)]), x]);
  const slopeOfU = tape.node('Add', [tape.node('Mul', [squares, tape.scalar(3)]), tape.scalar(FAST_GELU_SCALE)]);
  return gatedSlope(tape, y, tape.node('Sigmoid', [u]), slopeOfU);
}

/** GELU is x Φ(x): its slope is Φ(x) + x φ(x). */
function geluSlope(tape: GradientTape, x: Value): Value {
  const erf = tape.node('Erf', [tape.node('Mul', [x, tape.scalar(Math.SQRT1_2)])]);
  const cumulative = tape.node('Mul', [tape.node('Add', [erf, tape.scalar(1)]), tape.scalar(0.5)]);
  const exponent = tape.node('Mul', [tape.node('Mul', [x, x]), tape.scalar(-0.5)]);
  const density = tape.node('Mul', [tape.node('Exp', [exponent]), tape.scalar(1 / Math.sqrt(2 * Math.PI))]);
  return tape.node('Add', [cumulative, tape.node('Mul', [x, density])]);
}

function quickGeluSlope(tape: GradientTape, x: Value, y: Value, node: BackwardNode): Value {
  const { alpha } = node.attributes;
  invariant(typeof alpha === 'object' && 'float' in alpha, `${node.name} says its alpha`);
  const factor = tape.scalar(alpha.float);
  return gatedSlope(tape, y, tape.node('Sigmoid', [tape.node('Mul', [x, factor])]), factor);
}

function checkLastAxis({ name, attributes }: BackwardNode): void {
  invariant(attributes.axis === -1, `${name} works along the last axis`);
}

/** p = softmax(x): p · (g − Σ p g) */
const softmax: GradientRule = (node, tape) => {
  checkLastAxis(node);
  const [p] = node.outputs as [Value];
  const gradient = outputGradient(node);
  return [
    () => {
      const sums = tape.node('ReduceSum', [tape.node('Mul', [p, gradient]), tape.graph.integers(-1)], { keepdims: 1 });
      return tape.node('Mul', [tape.node('Sub', [gradient, sums]), p]);
    },
  ];
};

/** y = x − log Σ exp x: g − exp(y) Σ g */
const logSoftmax: GradientRule = (node, tape) => {
  checkLastAxis(node);
  const [y] = node.outputs as [Value];
  const gradient = outputGradient(node);
  return [
    () => {
      const sums = tape.node('ReduceSum', [gradient, tape.graph.integers(-1)], { keepdims: 1 });
      return tape.node('Sub', [gradient, tape.node('Mul', [tape.node('Exp', [y]), sums])]);
    },
  ];
};

export const functionGradients: Readonly<Record<string, GradientRule>> = {
  Relu: pointwise((tape, _, y) => tape.node('Sign', [y])),
  Tanh: pointwise((tape, _, y) => tape.node('Sub', [tape.scalar(1), tape.node('Mul', [y, y])])),
  Sigmoid: pointwise((tape, _, y) => tape.node('Sub', [y, tape.node('Mul', [y, y])])),
  Exp: pointwise((_tape, _, y) => y),
  Log: pointwise((tape, x) => tape.node('Reciprocal', [x])),
  Sqrt: pointwise((tape, _, y) => tape.node('Div', [tape.scalar(0.5), y])),
  FastGelu: pointwise(fastGeluSlope),
  Gelu: pointwise(geluSlope),
  QuickGelu: pointwise(quickGeluSlope),
  Softmax: softmax,
  LogSoftmax: logSoftmax,
};
