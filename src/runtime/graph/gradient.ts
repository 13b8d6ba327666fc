/**
 * Reverse mode: adds to a graph the nodes that compute gradients, one rule an operator, by what the builder has
 * recorded. It computes no more than is asked for: nothing of what is frozen, and no way back beyond the first value
 * that anything asked for depends on.
 */
import { invariant } from '../errors.ts';
import { arithmeticGradients } from './gradient-arithmetic.ts';
import { functionGradients } from './gradient-functions.ts';
import { layoutGradients } from './gradient-layout.ts';
import { normGradients } from './gradient-norms.ts';
import { type GradientRule, GradientTape } from './gradient-rule.ts';
import type { GraphBuilder, Value } from './graph-builder.ts';
import type { NodeSpec } from './model-proto.ts';
import { type NodeRange, Recomputation } from './recomputation.ts';
import { inferDims } from './value-dims.ts';

const rules: Readonly<Record<string, GradientRule>> = {
  ...arithmeticGradients,
  ...functionGradients,
  ...layoutGradients,
  ...normGradients,
};

/** The operators that have a rule. */
export const differentiableOperators: readonly string[] = Object.keys(rules);

export interface GradientRequest {
  /** The gradient of the loss by values that it is computed from. */
  readonly seeds: ReadonlyMap<Value, Value>;
  /** Inputs or weights whose gradients are asked for; the loss depends on each. */
  readonly wanted: readonly Value[];
  /** Parts of the graph whose values are computed again on the way back instead of kept. Absent: all are kept. */
  readonly recomputed?: readonly NodeRange[];
}

/** Returns the gradients of what is wanted, by the value they belong to. */
export function addGradients(graph: GraphBuilder, request: GradientRequest): ReadonlyMap<Value, Value> {
  const { seeds, wanted, recomputed = [] } = request;
  const nodes = [...graph.recorded.nodes];
  const dims = inferDims(graph.recorded);
  const tape = new GradientTape(graph, dims);
  const recomputation = new Recomputation(graph, nodes, recomputed, dims);
  const reached = dependents(nodes, wanted);
  const gradients = new Map<string, Value>(seeds);
  graph.scope('gradient', () => {
    for (const [index, node] of [...nodes.entries()].reverse()) {
      const own = node.outputs.map((output) => gradients.get(output));
      const gate = own.find((gradient) => gradient !== undefined);
      if (gate === undefined || !node.outputs.some((output) => reached.has(output))) continue;
      const rule = rules[node.opType];
      invariant(rule !== undefined, `${node.opType} of ${node.name} has a rule of reverse mode`);
      const forward = recomputation.node(index, gate);
      const made = rule(
        {
          name: node.name,
          inputs: forward.inputs as readonly Value[],
          outputs: forward.outputs as readonly Value[],
          attributes: node.attributes,
          gradients: own,
        },
        tape,
      );
      for (const [place, input] of node.inputs.entries()) {
        if (!reached.has(input)) continue;
        const make = made[place];
        invariant(make !== undefined, `input ${place} of ${node.name} has a gradient`);
        const before = gradients.get(input);
        const gradient = make();
        gradients.set(input, before === undefined ? gradient : tape.node('Add', [before, gradient]));
      }
      // what is summed up is not needed any more
      for (const output of node.outputs) if (!seeds.has(output as Value)) gradients.delete(output);
    }
  });
  return new Map(
    wanted.map((value) => {
      const gradient = gradients.get(value);
      invariant(gradient !== undefined, `the loss depends on ${value}`);
      return [value, gradient];
    }),
  );
}

/** What these give does not move when what they read does. */
const CONSTANT_OPERATORS = new Set(['Greater', 'Shape', 'Size']);

/** All values that depend on one of `origins`, themselves included. */
function dependents(nodes: readonly NodeSpec[], origins: readonly Value[]): ReadonlySet<string> {
  const reached = new Set<string>(origins);
  for (const { opType, inputs, outputs } of nodes) {
    if (CONSTANT_OPERATORS.has(opType)) continue;
    if (inputs.some((input) => reached.has(input))) for (const output of outputs) reached.add(output);
  }
  return reached;
}
