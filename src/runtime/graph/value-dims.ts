/**
 * The dimensions of the values of a graph: one rule an operator, for the operators that our layers are made of. Sizes
 * that are known when the graph runs are names; two equal names are one size, and a size that no rule can tell has a
 * name of its own.
 */
import { invariant } from '../errors.ts';
import type { RecordedGraph } from './graph-builder.ts';
import type { AttributeValue, Dimension, NodeSpec } from './model-proto.ts';

type Dims = readonly Dimension[];

/** What a rule sees of a node. */
interface Shaped {
  readonly node: NodeSpec;
  readonly inputs: readonly Dims[];
  /** The integers of an input that is a constant; undefined where it is none. */
  readonly integers: (input: number) => readonly number[] | undefined;
}

type DimsRule = (shaped: Shaped) => readonly Dims[];

export function integerAttribute(value: AttributeValue | undefined, fallback: number): number {
  return typeof value === 'number' ? value : fallback;
}

/** Counts an axis from the front. */
export function axisFromFront(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

function first({ inputs }: Shaped): Dims {
  return inputs[0] ?? [];
}

function unknown({ node }: Shaped, axis: number, output = 0): string {
  return `${node.outputs[output]}#${axis}`;
}

/** Dimensions that several broadcast to. */
export function broadcastDims(all: readonly Dims[]): Dims {
  const rank = Math.max(...all.map(({ length }) => length));
  return Array.from({ length: rank }, (_, axis) => {
    const sizes = all.map((dims) => dims[axis - rank + dims.length] ?? 1);
    return sizes.find((size) => size !== 1) ?? 1;
  });
}

const sameAsFirst: DimsRule = (shaped) => shaped.node.outputs.map(() => first(shaped));
const broadcast: DimsRule = ({ inputs }) => [broadcastDims(inputs)];

const product: DimsRule = ({ node, inputs }) => {
  const [a = [], b = []] = inputs;
  const rows = node.attributes.transA === 1 ? a.at(-1) : a.at(-2);
  const columns = node.attributes.transB === 1 ? b.at(-2) : b.at(-1);
  invariant(rows !== undefined && columns !== undefined, `${node.name} multiplies matrices`);
  return [[...broadcastDims([a.slice(0, -2), b.slice(0, -2)]), rows, columns]];
};

const reduce: DimsRule = (shaped) => {
  const dims = first(shaped);
  const axes = (shaped.integers(1) ?? dims.map((_, axis) => axis)).map((axis) => axisFromFront(axis, dims.length));
  const keeps = integerAttribute(shaped.node.attributes.keepdims, 1) === 1;
  return [dims.flatMap((size, axis) => (axes.includes(axis) ? (keeps ? [1] : []) : [size]))];
};

const reshape: DimsRule = (shaped) => {
  const dims = first(shaped);
  const target = shaped.integers(1);
  invariant(target !== undefined, `${shaped.node.name} has constant sizes`);
  return [target.map((size, axis) => (size === 0 ? (dims[axis] ?? 1) : size === -1 ? unknown(shaped, axis) : size))];
};

const unsqueeze: DimsRule = (shaped) => {
  const axes = shaped.integers(1) ?? [];
  const rank = first(shaped).length + axes.length;
  const rest = [...first(shaped)];
  const added = axes.map((axis) => axisFromFront(axis, rank));
  return [Array.from({ length: rank }, (_, axis) => (added.includes(axis) ? 1 : (rest.shift() ?? 1)))];
};

const concat: DimsRule = (shaped) => {
  const dims = first(shaped);
  const axis = axisFromFront(integerAttribute(shaped.node.attributes.axis, 0), dims.length);
  const sizes = shaped.inputs.map((input) => input[axis]);
  const total = sizes.reduce((sum: number, size) => sum + (typeof size === 'number' ? size : Number.NaN), 0);
  return [dims.with(axis, Number.isNaN(total) ? unknown(shaped, axis) : total)];
};

const split: DimsRule = (shaped) => {
  const dims = first(shaped);
  const axis = axisFromFront(integerAttribute(shaped.node.attributes.axis, 0), dims.length);
  const sizes = shaped.integers(1);
  return shaped.node.outputs.map((_, part) => dims.with(axis, sizes?.[part] ?? unknown(shaped, axis, part)));
};

const gather: DimsRule = ({ node, inputs }) => {
  const [data = [], index = []] = inputs;
  const axis = axisFromFront(integerAttribute(node.attributes.axis, 0), data.length);
  return [[...data.slice(0, axis), ...index, ...data.slice(axis + 1)]];
};

const transpose: DimsRule = (shaped) => {
  const dims = first(shaped);
  const { perm } = shaped.node.attributes;
  invariant(Array.isArray(perm), `${shaped.node.name} says its order`);
  return [perm.map((axis: number) => dims[axis] ?? 1)];
};

const rules: Readonly<Record<string, DimsRule>> = {
  Add: broadcast,
  Sub: broadcast,
  Mul: broadcast,
  Div: broadcast,
  Where: broadcast,
  Greater: broadcast,
  MatMul: product,
  FusedMatMul: product,
  ReduceSum: reduce,
  ReduceMean: reduce,
  ReduceMax: reduce,
  Reshape: reshape,
  Unsqueeze: unsqueeze,
  Concat: concat,
  Split: split,
  Gather: gather,
  GatherElements: ({ inputs }) => [inputs[1] ?? []],
  Transpose: transpose,
  Cast: sameAsFirst,
  Exp: sameAsFirst,
  FastGelu: sameAsFirst,
  Gelu: sameAsFirst,
  LayerNormalization: sameAsFirst,
  Log: sameAsFirst,
  LogSoftmax: sameAsFirst,
  Neg: sameAsFirst,
  QuickGelu: sameAsFirst,
  Relu: sameAsFirst,
  RotaryEmbedding: sameAsFirst,
  ScatterElements: sameAsFirst,
  Sigmoid: sameAsFirst,
  SimplifiedLayerNormalization: sameAsFirst,
  SkipLayerNormalization: sameAsFirst,
  SkipSimplifiedLayerNormalization: sameAsFirst,
  Softmax: sameAsFirst,
  Sqrt: sameAsFirst,
  Tanh: sameAsFirst,
};

/** Returns the dimensions of every value that the rules reach; operators that have no rule give values without any. */
export function inferDims({ nodes, inputs, initializers }: RecordedGraph): Map<string, Dims> {
  const known = new Map<string, Dims>();
  for (const { name, dims } of inputs) known.set(name, dims);
  for (const [name, { dims }] of initializers) known.set(name, dims);
  for (const node of nodes) {
    const rule = rules[node.opType];
    const own = node.inputs.map((input) => known.get(input));
    if (rule === undefined || !own.every((dims) => dims !== undefined)) continue;
    const integers = (input: number): readonly number[] | undefined => {
      const data = initializers.get(node.inputs[input] ?? '')?.data;
      return data === undefined ? undefined : Array.from(data, Number);
    };
    for (const [index, dims] of rule({ node, inputs: own, integers }).entries()) {
      const output = node.outputs[index];
      if (output !== undefined) known.set(output, dims);
    }
  }
  return known;
}
