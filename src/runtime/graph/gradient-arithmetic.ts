/** Reverse mode of arithmetic: elementwise with broadcasting, sums, and products of matrices. */
import { invariant } from '../errors.ts';
import { type GradientRule, type GradientTape, outputGradient } from './gradient-rule.ts';
import { FLOAT32, type Value } from './graph-builder.ts';
import type { AttributeValue, Dimension } from './model-proto.ts';
import { broadcastDims, integerAttribute } from './value-dims.ts';

type Pair = readonly [Value, Value];

const add: GradientRule = (node, tape) => {
  const gradient = outputGradient(node);
  const to = tape.broadcastDims(...node.inputs);
  return node.inputs.map((input) => () => tape.unbroadcast(gradient, input, to));
};

const subtract: GradientRule = (node, tape) => {
  const [a, b] = node.inputs as unknown as Pair;
  const gradient = outputGradient(node);
  const to = tape.broadcastDims(a, b);
  return [() => tape.unbroadcast(gradient, a, to), () => tape.node('Neg', [tape.unbroadcast(gradient, b, to)])];
};

const multiply: GradientRule = (node, tape) => {
  const [a, b] = node.inputs as unknown as Pair;
  const gradient = outputGradient(node);
  const to = tape.broadcastDims(a, b);
  return [
    () => tape.unbroadcast(tape.node('Mul', [gradient, b]), a, to),
    () => tape.unbroadcast(tape.node('Mul', [gradient, a]), b, to),
  ];
};

const divide: GradientRule = (node, tape) => {
  const [a, b] = node.inputs as unknown as Pair;
  const [quotient] = node.outputs as [Value];
  const gradient = outputGradient(node);
  const to = tape.broadcastDims(a, b);
  const overB = (value: Value): Value => tape.node('Div', [value, b]);
  return [
    () => tape.unbroadcast(overB(gradient), a, to),
    () => tape.unbroadcast(tape.node('Neg', [overB(tape.node('Mul', [gradient, quotient]))]), b, to),
  ];
};

/** where(condition, a, b) */
const where: GradientRule = (node, tape) => {
  const [condition, a, b] = node.inputs as readonly Value[] as [Value, Value, Value];
  const gradient = outputGradient(node);
  const to = tape.broadcastDims(condition, a, b);
  return [
    undefined,
    () => tape.unbroadcast(tape.node('Where', [condition, gradient, tape.scalar(0)]), a, to),
    () => tape.unbroadcast(tape.node('Where', [condition, tape.scalar(0), gradient]), b, to),
  ];
};

/** Puts back the axes that a sum took away, and repeats its gradient along them. */
function spread(
  tape: GradientTape,
  gradient: Value,
  x: Value,
  keepdims: AttributeValue | undefined,
  axes?: Value,
): Value {
  const shape = tape.node('Shape', [x]);
  const kept = integerAttribute(keepdims, 1) === 1 || axes === undefined;
  return tape.node('Expand', [kept ? gradient : tape.node('Unsqueeze', [gradient, axes]), shape]);
}

const reduceSum: GradientRule = (node, tape) => {
  const [x, axes] = node.inputs as [Value, Value | undefined];
  return [() => spread(tape, outputGradient(node), x, node.attributes.keepdims, axes)];
};

const reduceMean: GradientRule = (node, tape) => {
  const [x, axes] = node.inputs as [Value, Value | undefined];
  const count = (value: Value): Value => tape.node('Cast', [tape.node('Size', [value])], { to: FLOAT32 });
  return [
    () => {
      const share = tape.node('Div', [count(outputGradient(node)), count(x)]);
      const scaled = tape.node('Mul', [outputGradient(node), share]);
      return spread(tape, scaled, x, node.attributes.keepdims, axes);
    },
  ];
};

/** alpha · op(a) op(b), where op transposes the last two axes or does nothing. */
interface Product {
  readonly a: Value;
  readonly b: Value;
  readonly transA: boolean;
  readonly transB: boolean;
  readonly alpha: AttributeValue | undefined;
}

function multiplyMatrices(tape: GradientTape, { a, b, transA, transB, alpha }: Product): Value {
  const attributes = { transA: Number(transA), transB: Number(transB) };
  return tape.node('FusedMatMul', [a, b], alpha === undefined ? attributes : { ...attributes, alpha });
}

/** [.., n] → [rows, n] */
function asRows(tape: GradientTape, x: Value, size: Dimension | undefined): Value {
  invariant(typeof size === 'number', `the columns of ${x} are a fixed number`);
  return tape.node('Reshape', [x, tape.graph.integers(-1, size)]);
}

/** The gradient of a matrix b [k, n] (or [n, k]) that rows of x [.., k] met: one product over all rows. */
function matrixGradient(tape: GradientTape, gradient: Value, product: Product, columns: Dimension | undefined): Value {
  const { a, transB } = product;
  const rowsOfX = asRows(tape, a, tape.dims(a).at(-1));
  const rowsOfGradient = asRows(tape, gradient, columns);
  const [left, right] = transB ? [rowsOfGradient, rowsOfX] : [rowsOfX, rowsOfGradient];
  return multiplyMatrices(tape, { ...product, a: left, b: right, transA: true, transB: false });
}

const matrixProduct: GradientRule = (node, tape) => {
  const [a, b] = node.inputs as unknown as Pair;
  const { attributes } = node;
  const product = { a, b, transA: attributes.transA === 1, transB: attributes.transB === 1, alpha: attributes.alpha };
  const { transA, transB } = product;
  const gradient = outputGradient(node);
  const [aDims, bDims] = [tape.dims(a), tape.dims(b)];
  const batch = broadcastDims([aDims.slice(0, -2), bDims.slice(0, -2)]);
  return [
    () => {
      const made = transA
        ? multiplyMatrices(tape, { ...product, a: b, b: gradient, transA: transB, transB: true })
        : multiplyMatrices(tape, { ...product, a: gradient, b, transA: false, transB: !transB });
      return tape.unbroadcast(made, a, [...batch, ...aDims.slice(-2)]);
    },
    () => {
      if (bDims.length === 2 && !transA && aDims.length > 2) {
        return matrixGradient(tape, gradient, product, transB ? bDims[0] : bDims[1]);
      }
      const made = transB
        ? multiplyMatrices(tape, { ...product, a: gradient, b: a, transA: true, transB: transA })
        : multiplyMatrices(tape, { ...product, a, b: gradient, transA: !transA, transB: false });
      return tape.unbroadcast(made, b, [...batch, ...bDims.slice(-2)]);
    },
  ];
};

export const arithmeticGradients: Readonly<Record<string, GradientRule>> = {
  Add: add,
  Sub: subtract,
  Mul: multiply,
  Div: divide,
  Neg: (node, tape) => [() => tape.node('Neg', [outputGradient(node)])],
  Where: where,
  ReduceSum: reduceSum,
  ReduceMean: reduceMean,
  MatMul: matrixProduct,
  FusedMatMul: matrixProduct,
};
