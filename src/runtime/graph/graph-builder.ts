/**
 * Builds an ONNX graph node by node. It knows names and shapes of nothing: operators are named as in the ONNX and
 * ONNX Runtime (`com.microsoft`) operator sets, values are handles. Node names are paths (`decoder/0/self/q`), so that
 * a profile reads like the model.
 */
import { invariant } from '../errors.ts';
import { ByMemory, type ElementType, elementTypeOf, floatTensor, longTensor, type TensorValue } from '../tensor.ts';
import {
  type AttributeValue,
  type BranchSpec,
  type Dimension,
  encodeModel,
  type NodeSpec,
  type OnnxModel,
  type ValueSpec,
} from './model-proto.ts';

/** The name of a value in the graph; only a GraphBuilder makes them. */
export type Value = string & { readonly brand: 'graph value' };

type Attributes = Readonly<Record<string, AttributeValue>>;

export type ValueType = Omit<ValueSpec, 'name'>;

/** What a loop hands from turn to turn. */
export interface CarriedValue extends ValueType {
  readonly start: Value;
}

/** What a turn of a loop gives. */
export interface LoopTurn {
  /** bool, one element. */
  readonly goesOn: Value;
  readonly carried: readonly Value[];
  readonly scanned: readonly Value[];
}

function named(values: readonly Value[], types: readonly ValueType[]): ValueSpec[] {
  return types.map(({ type, dims }, index) => ({ name: values[index] as Value, type, dims }));
}

/** Operators outside the ONNX standard that ONNX Runtime's CPU provider has. */
const MICROSOFT_OPERATORS = new Set([
  'FusedMatMul',
  'MatMulIntegerToFloat',
  'SkipSimplifiedLayerNormalization',
  'SkipLayerNormalization',
  'RotaryEmbedding',
  'FastGelu',
  'QuickGelu',
]);

/** What a builder holds so far, for those who add nodes by what is there. */
export interface RecordedGraph {
  readonly nodes: readonly NodeSpec[];
  readonly initializers: ReadonlyMap<string, TensorValue>;
  readonly inputs: readonly ValueSpec[];
}

/** Types of elements that `Cast` goes to, as ONNX numbers them. */
export const [FLOAT32, INT32, INT64, BOOL, FLOAT16] = [1, 6, 7, 9, 10] as const;

/** The first output of a graph that writes into the caller's arrays (Session.runInto). */
export const IN_PLACE_MARKER = 'outputs_in_place';

export class GraphBuilder {
  /** Of the graph, or of the branch that is being built. */
  private nodes: NodeSpec[] = [];
  private readonly initializers = new Map<string, TensorValue>();
  private readonly weights = new ByMemory<Value>();
  private readonly inputs: ValueSpec[] = [];
  private readonly outputs: ValueSpec[] = [];
  /** Output names by the value they stand for: the node that makes it writes to that name. */
  private readonly outputNames = new Map<string, string>();
  private readonly path: string[] = [];
  private readonly taken = new Set<string>();

  constructor(private readonly name: string) {}

  /** Grows with the graph. */
  get recorded(): RecordedGraph {
    const { nodes, initializers, inputs } = this;
    return { nodes, initializers, inputs };
  }

  /** Declares an input that every run must feed. */
  input(name: string, type: ElementType, dims: readonly Dimension[]): Value {
    this.claim(name);
    this.inputs.push({ name, type, dims });
    return name as Value;
  }

  /** Declares a value as an output under the given name. */
  output(value: Value, name: string, type: ElementType, dims: readonly Dimension[]): void {
    this.claim(name);
    invariant(!this.outputNames.has(value), `${value} is one output`);
    this.outputNames.set(value, name);
    this.outputs.push({ name, type, dims });
  }

  /** Lets runs write the outputs into the caller's arrays (Session.runInto). */
  writeInPlace(): void {
    this.claim(IN_PLACE_MARKER);
    this.outputNames.set(this.node('SequenceConstruct', [this.integers(0)]), IN_PLACE_MARKER);
    this.outputs.unshift({ name: IN_PLACE_MARKER, type: 'int64', dims: [1], isSequence: true });
  }

  /** Adds a constant under its own name below the current path; one that lies in the same memory is there once. */
  weight(name: string, tensor: TensorValue): Value {
    return this.weights.get(tensor.data, tensor.dims, () => {
      const full = this.unique(name) as Value;
      this.initializers.set(full, tensor);
      return full;
    });
  }

  /** Adds a small constant; those of one name are shared. */
  constant(name: string, tensor: TensorValue): Value {
    const full = `constants/${name}`;
    const known = this.initializers.get(full) ?? tensor;
    invariant(elementTypeOf(known.data) === elementTypeOf(tensor.data), `${full} is of one type`);
    this.initializers.set(full, known);
    return full as Value;
  }

  /** Adds a float32 constant without dimensions; those of one name are shared. */
  scalar(name: string, value: number): Value {
    return this.constant(name, floatTensor(Float32Array.of(value), []));
  }

  /** Adds a small int64 constant: axes, shapes, split sizes. Equal ones are shared. */
  integers(...values: readonly number[]): Value {
    return this.constant(`integers/${values.join(',')}`, longTensor(values));
  }

  /**
   * The size of an axis, int64 [1]. It stays in the processor's memory, where conditions, counts and sizes are read: a
   * number in a tensor would come back from a device every time that it is read.
   */
  size(x: Value, axis: number): Value {
    return this.node('Shape', [x], { start: axis, end: axis + 1 });
  }

  /** A count as `size`: that of an input without content, which is fed so many numbers (`countTensor`). */
  count(name: string): Value {
    return this.size(this.input(name, 'int64', [name]), 0);
  }

  /** Whether an input is fed anything, bool [1]: `count` as a condition. */
  flag(name: string): Value {
    return this.node('Cast', [this.count(name)], { to: BOOL });
  }

  /** Adds a node with one output. */
  node(opType: string, inputs: readonly Value[], attributes: Attributes = {}): Value {
    const [output] = this.nodeWithOutputs(opType, inputs, attributes, 1);
    invariant(output !== undefined, 'a node has an output');
    return output;
  }

  /** Adds a node with several outputs; trailing ones that the operator leaves optional may be left unused. */
  nodeWithOutputs(opType: string, inputs: readonly Value[], attributes: Attributes, outputCount: number): Value[] {
    const name = this.unique(opType);
    const outputs = Array.from({ length: outputCount }, (_, index) => (index === 0 ? name : `${name}:${index}`));
    const domain = MICROSOFT_OPERATORS.has(opType) ? 'com.microsoft' : '';
    this.nodes.push({ opType, domain, name, inputs, outputs, attributes });
    return outputs as Value[];
  }

  /**
   * One of two values, whose nodes run only where `condition` (bool, one element) takes them. `value`: type and
   * dimensions of both. Nodes that both need belong before it: a branch sees none of the other's.
   */
  either(condition: Value, value: ValueType, then: () => Value, otherwise: () => Value): Value {
    const [output] = this.eitherOf(
      condition,
      [value],
      () => [then()],
      () => [otherwise()],
    );
    invariant(output !== undefined, 'a node has an output');
    return output;
  }

  /** As `either`, with several values. */
  eitherOf(
    condition: Value,
    values: readonly ValueType[],
    then: () => readonly Value[],
    otherwise: () => readonly Value[],
  ): Value[] {
    const branch = (name: string, build: () => readonly Value[]): BranchSpec =>
      this.inner(name, () => ({ inputs: [], outputs: named(build(), values) }));
    const branches = { then_branch: branch('then', then), else_branch: branch('otherwise', otherwise) };
    return this.nodeWithOutputs('If', [condition], branches, values.length);
  }

  /**
   * Runs `body` up to `count` times (int64, one element), until a turn says that none is to follow. Returns what is
   * carried after the last turn, then what every turn gave, stacked along a new first axis.
   */
  loop(
    count: Value,
    carried: readonly CarriedValue[],
    scanned: readonly ValueType[],
    body: (iteration: Value, carried: readonly Value[]) => LoopTurn,
  ): Value[] {
    const inner = this.inner('loop', (name) => {
      const iteration: ValueSpec = { name: `${name}/iteration`, type: 'int64', dims: [] };
      const goesOn: ValueSpec = { name: `${name}/goes_on`, type: 'bool', dims: [] };
      const states = carried.map(({ type, dims }, index) => ({ name: `${name}/carried:${index}`, type, dims }));
      const turn = body(
        iteration.name as Value,
        states.map((state) => state.name as Value),
      );
      const outputs = [turn.goesOn, ...turn.carried, ...turn.scanned];
      const types = [goesOn, ...states, ...scanned];
      return { inputs: [iteration, goesOn, ...states], outputs: named(outputs, types) };
    });
    const start = this.node('Cast', [this.constant('loop_start', { data: BigInt64Array.of(1n), dims: [] })], {
      to: BOOL,
    });
    const inputs = [count, start, ...carried.map((value) => value.start)];
    return this.nodeWithOutputs('Loop', inputs, { body: inner }, carried.length + scanned.length);
  }

  /** A graph inside a node; `build` is told a name that is its own. */
  private inner(segment: string, build: (name: string) => Pick<BranchSpec, 'inputs' | 'outputs'>): BranchSpec {
    const around = this.nodes;
    this.nodes = [];
    const name = this.unique(segment);
    try {
      const ends = this.scope(segment, () => build(name));
      return { name, nodes: this.nodes, ...ends };
    } finally {
      this.nodes = around;
    }
  }

  /** Runs `build` with `segment` added to the path that names what it adds. */
  scope<T>(segment: string, build: () => T): T {
    this.path.push(segment);
    try {
      return build();
    } finally {
      this.path.pop();
    }
  }

  /** Returns the finished model. */
  build(): OnnxModel {
    return encodeModel({
      name: this.name,
      nodes: this.nodes.map((node) => this.renamed(node)),
      initializers: this.initializers,
      inputs: this.inputs,
      outputs: this.outputs,
    });
  }

  /** With the names of outputs in place of the values that they stand for. */
  private renamed(node: NodeSpec): NodeSpec {
    const rename = (name: string): string => this.outputNames.get(name) ?? name;
    const attributes = Object.entries(node.attributes).map(([name, value]) => {
      if (typeof value !== 'object' || !('nodes' in value)) return [name, value] as const;
      return [name, { ...value, nodes: value.nodes.map((inner) => this.renamed(inner)) }] as const;
    });
    return {
      ...node,
      inputs: node.inputs.map(rename),
      outputs: node.outputs.map(rename),
      attributes: Object.fromEntries(attributes),
    };
  }

  private unique(name: string): string {
    const base = [...this.path, name].join('/');
    let candidate = base;
    for (let suffix = 2; this.taken.has(candidate); suffix++) candidate = `${base}.${suffix}`;
    this.taken.add(candidate);
    return candidate;
  }

  private claim(name: string): void {
    invariant(!this.taken.has(name), `graph ${this.name} declares ${name} twice`);
    this.taken.add(name);
  }
}
