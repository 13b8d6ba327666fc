/** What a rule of reverse mode is, and what rules share. */
import { invariant } from '../errors.ts';
import { floatTensor } from '../tensor.ts';
import type { GraphBuilder, Value } from './graph-builder.ts';
import type { AttributeValue, Dimension } from './model-proto.ts';
import { broadcastDims } from './value-dims.ts';

/** A node on the way back. */
export interface BackwardNode {
  readonly name: string;
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly attributes: Readonly<Record<string, AttributeValue>>;
  /** The gradient of each output; undefined where the loss does not depend on it. One of them is there. */
  readonly gradients: readonly (Value | undefined)[];
}

/** Adds the nodes of one gradient; called only where it is wanted, once at most. */
type MakeGradient = () => Value;

/** Returns how to make the gradient of each input; undefined for inputs that have none, like indices. */
export type GradientRule = (node: BackwardNode, tape: GradientTape) => readonly (MakeGradient | undefined)[];

/** The graph that gradients are added to. */
export class GradientTape {
  private readonly scalars = new Map<number, Value>();

  constructor(
    readonly graph: GraphBuilder,
    private readonly known: ReadonlyMap<string, readonly Dimension[]>,
  ) {}

  dims(value: Value): readonly Dimension[] {
    const dims = this.known.get(value);
    invariant(dims !== undefined, `the dimensions of ${value} are known: its operator has a rule in value-dims.ts`);
    return dims;
  }

  node(opType: string, inputs: readonly Value[], attributes: Readonly<Record<string, AttributeValue>> = {}): Value {
    return this.graph.node(opType, inputs, attributes);
  }

  scalar(number: number): Value {
    const known = this.scalars.get(number);
    if (known !== undefined) return known;
    const value = this.graph.weight('scalar', floatTensor(new Float32Array([number]), []));
    this.scalars.set(number, value);
    return value;
  }

  /** Zeros of the shape of `value`. */
  zerosLike(value: Value): Value {
    return this.node('ConstantOfShape', [this.node('Shape', [value])]);
  }

  /** Sums the gradient of a value that was broadcast to `to` over what it was repeated along. */
  unbroadcast(gradient: Value, value: Value, to: readonly Dimension[]): Value {
    const dims = this.dims(value);
    const added = to.length - dims.length;
    const axes = to.flatMap((size, axis) => (axis < added || (dims[axis - added] === 1 && size !== 1) ? [axis] : []));
    if (axes.length === 0) return gradient;
    const { graph } = this;
    const summed = this.node('ReduceSum', [gradient, graph.integers(...axes)], { keepdims: 1 });
    if (added === 0) return summed;
    return this.node('Squeeze', [summed, graph.integers(...Array.from({ length: added }, (_, axis) => axis))]);
  }

  /** The dimensions that these values broadcast to. */
  broadcastDims(...values: readonly Value[]): readonly Dimension[] {
    return broadcastDims(values.map((value) => this.dims(value)));
  }
}

/** The gradient of the only output. */
export function outputGradient({ name, gradients }: BackwardNode): Value {
  const [gradient] = gradients;
  invariant(gradient !== undefined, `${name} has a gradient`);
  return gradient;
}

/** The value that every caller gets; made when the first asks. */
export function once(make: MakeGradient): MakeGradient {
  let made: Value | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
