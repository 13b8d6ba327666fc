/** Reverse mode of what only moves numbers, or turns them: other shapes, other orders, parts, lookups, rotary positions. */
import { invariant } from '../errors.ts';
import { type BackwardNode, type GradientRule, type GradientTape, outputGradient } from './gradient-rule.ts';
import type { Value } from './graph-builder.ts';
import { axisFromFront, integerAttribute } from './value-dims.ts';

const reshape: GradientRule = (node, tape) => {
  const [x] = node.inputs as [Value];
  return [() => tape.node('Reshape', [outputGradient(node), tape.node('Shape', [x])])];
};

const transpose: GradientRule = (node, tape) => {
  const { perm } = node.attributes;
  invariant(Array.isArray(perm), `${node.name} says its order`);
  const back = perm.map((_, axis) => perm.indexOf(axis));
  return [() => tape.node('Transpose', [outputGradient(node)], { perm: back })];
};

/** Gradients of parts side by side; parts that the loss does not depend on are zeros. */
const split: GradientRule = (node, tape) => [
  () => {
    const parts = node.outputs.map((output, part) => node.gradients[part] ?? tape.zerosLike(output));
    return tape.node('Concat', parts, { axis: integerAttribute(node.attributes.axis, 0) });
  },
];

const concat: GradientRule = (node, tape) => {
  const [first] = node.inputs as [Value];
  const axis = axisFromFront(integerAttribute(node.attributes.axis, 0), tape.dims(first).length);
  let parts: readonly Value[] | undefined;
  const cut = (): readonly Value[] => {
    const sizes = node.inputs.map((input) => tape.node('Shape', [input], { start: axis, end: axis + 1 }));
    const inputs = [outputGradient(node), tape.node('Concat', sizes, { axis: 0 })];
    return tape.graph.nodeWithOutputs('Split', inputs, { axis }, sizes.length);
  };
  return node.inputs.map((_, part) => () => {
    parts ??= cut();
    return parts[part] as Value;
  });
};

function checkFirstAxis({ name, attributes }: BackwardNode): void {
  invariant(integerAttribute(attributes.axis, 0) === 0, `${name} looks up along the first axis`);
}

/** Rows of a table: each gradient is added to the row it was read from, in order, so that runs repeat to the bit. */
const gather: GradientRule = (node, tape) => {
  checkFirstAxis(node);
  const [table, index] = node.inputs as [Value, Value];
  const rest = tape.dims(table).slice(1);
  invariant(
    rest.every((size) => typeof size === 'number'),
    `${node.name} reads rows of a fixed size`,
  );
  const { graph } = tape;
  return [
    () => {
      const rows = tape.node('Reshape', [outputGradient(node), graph.integers(-1, ...(rest as readonly number[]))]);
      const places = tape.node('Reshape', [index, graph.integers(-1, ...rest.map(() => 1))]);
      const everywhere = tape.node('Expand', [places, tape.node('Shape', [rows])]);
      return scatterAdd(tape, table, everywhere, rows, 0);
    },
  ];
};

function scatterAdd(tape: GradientTape, like: Value, index: Value, updates: Value, axis: number): Value {
  return tape.node('ScatterElements', [tape.zerosLike(like), index, updates], { axis, reduction: 'add' });
}

const gatherElements: GradientRule = (node, tape) => {
  const [x, index] = node.inputs as [Value, Value];
  const axis = integerAttribute(node.attributes.axis, 0);
  return [() => scatterAdd(tape, x, index, outputGradient(node), axis)];
};

/** Turns pairs of numbers; its transpose turns them back. */
const rotate: GradientRule = (node, tape) => {
  const [, positions, cosines, sines] = node.inputs as readonly Value[] as [Value, Value, Value, Value];
  return [
    () => {
      const inputs = [outputGradient(node), positions, cosines, tape.node('Neg', [sines])];
      return tape.node('RotaryEmbedding', inputs, node.attributes);
    },
  ];
};

export const layoutGradients: Readonly<Record<string, GradientRule>> = {
  Reshape: reshape,
  Unsqueeze: reshape,
  Transpose: transpose,
  Split: split,
  Concat: concat,
  Gather: gather,
  GatherElements: gatherElements,
  RotaryEmbedding: rotate,
};
