/**
 * Computes values of the way forward again on the way back, so that they need not be kept in between (Chen et al. 2016,
 * https://arxiv.org/abs/1604.06174). The nodes of a range are copied when the way back enters it.
 */
import type { GraphBuilder, Value } from './graph-builder.ts';
import type { Dimension, NodeSpec } from './model-proto.ts';

/** Nodes of a graph by their numbers: `from` ≤ number < `to`. */
export interface NodeRange {
  readonly from: number;
  readonly to: number;
}

export class Recomputation {
  /** Copies by the names of the originals, of ranges that have been entered. */
  private readonly copies = new Map<string, Value>();
  private readonly entered = new Set<NodeRange>();

  constructor(
    private readonly graph: GraphBuilder,
    private readonly nodes: readonly NodeSpec[],
    private readonly ranges: readonly NodeRange[],
    /** Gets the dimensions of the copies. */
    private readonly dims: Map<string, readonly Dimension[]>,
  ) {}

  /** Returns the inputs and outputs of a node that its gradients are to be computed from. `gate`: a gradient of its. */
  node(index: number, gate: Value): Pick<NodeSpec, 'inputs' | 'outputs'> {
    const node = this.nodes[index] as NodeSpec;
    const range = this.ranges.find(({ from, to }) => from <= index && index < to);
    if (range === undefined) return node;
    if (!this.entered.has(range)) this.enter(range, gate);
    const renamed = (name: string): string => this.copies.get(name) ?? name;
    return { inputs: node.inputs.map(renamed), outputs: node.outputs.map(renamed) };
  }

  private enter(range: NodeRange, gate: Value): void {
    this.entered.add(range);
    this.copies.clear();
    const nodes = this.nodes.slice(range.from, range.to);
    const wait = this.waitFor(gate);
    for (const { opType, inputs, outputs, attributes } of nodes) {
      const own = inputs.map((input) => {
        if (!this.copies.has(input) && this.grows(input)) this.copy(input, this.held(input as Value, wait));
        return this.copies.get(input) ?? (input as Value);
      });
      const made = this.graph.nodeWithOutputs(opType, own, attributes, outputs.length);
      for (const [place, output] of outputs.entries()) this.copy(output, made[place] as Value);
    }
  }

  private copy(name: string, value: Value): void {
    this.copies.set(name, value);
    const dims = this.dims.get(name);
    if (dims !== undefined) this.dims.set(value, dims);
  }

  /** Whether a value has a size of the run: what has none is a weight or as small as one, and stays. */
  private grows(name: string): boolean {
    return this.dims.get(name)?.some((size) => typeof size === 'string') ?? false;
  }

  /** [1]: zero, known when `gate` is. */
  private waitFor(gate: Value): Value {
    const { graph } = this;
    const size = graph.node('Reshape', [graph.node('Size', [gate]), graph.integers(1)]);
    return graph.node('Mul', [size, graph.integers(0)]);
  }

  /**
   * The same value, but not before `wait` is known. Otherwise onnxruntime sees that the copies compute what the
   * originals did and leaves them out, or computes them early and keeps them.
   */
  private held(value: Value, wait: Value): Value {
    const { graph } = this;
    return graph.node('Reshape', [value, graph.node('Add', [graph.node('Shape', [value]), wait])]);
  }
}
