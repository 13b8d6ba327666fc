/**
 * LoRA as graph nodes: y + b (a x), where a and b are inputs of the graph and never merged into a weight. An adapter
 * whose b is zero adds exact zeros.
 *
 * What a row gets must not depend, in any bit, on who shares its batch. ONNX Runtime's product of matrices that are
 * not constants rounds by how it cuts them (seen in MLAS of 1.30.0): the inner axis is cut by how wide the other matrix
 * is, and a single row takes another kernel. So in a batch factors come in units of LORA_UNIT ranks, one shape for all
 * of them: x [units, n ≥ 2, in] × a [units, in, 16] × b [units, 16, out]. An adapter of more ranks has several units,
 * whose shares are summed in their own order.
 */
import { floatTensor } from '../tensor.ts';
import type { GraphBuilder, Value } from './graph-builder.ts';
import type { OnnxModel } from './model-proto.ts';

/** Ranks of a unit: the widest matrix that onnxruntime cuts in one way only. */
export const LORA_UNIT = 16;

const ONE = floatTensor(new Float32Array([1]), []);

export interface AdaptedShape {
  readonly inSize: number;
  readonly outSize: number;
}

/** Which matrices of a model have LoRA inputs, by the paths of their modules. */
export interface LoraTargets {
  readonly modules: ReadonlySet<string>;
  /** Those whose own product is scaled too (DoRA). */
  readonly gains: ReadonlySet<string>;
}

/** A matrix that has LoRA inputs in a graph. */
export interface AdaptedModule extends AdaptedShape {
  readonly path: string;
  readonly hasGain: boolean;
}

/** A graph and which of its matrices have LoRA inputs. */
export interface AdaptableGraph {
  readonly model: OnnxModel;
  readonly adapted: readonly AdaptedModule[];
}

export const loraInput = {
  a: (module: string): string => `${module}.lora_a`,
  b: (module: string): string => `${module}.lora_b`,
  gain: (module: string): string => `${module}.lora_gain`,
} as const;

/** Adds what adapters add, and keeps account of the matrices that they may change. */
export abstract class LoraLayer {
  readonly adapted: AdaptedModule[] = [];

  constructor(
    protected readonly graph: GraphBuilder,
    private readonly targets: LoraTargets,
  ) {}

  /** Adds to y = W x what the adapters of its rows add; y itself where the module is no target. */
  adapt(module: string, x: Value, y: Value, shape: AdaptedShape): Value {
    const { graph, targets } = this;
    if (!targets.modules.has(module)) return y;
    const hasGain = targets.gains.has(module);
    const isKnown = this.adapted.some(({ path }) => path === module);
    if (!isKnown) this.adapted.push({ path: module, ...shape, hasGain });
    const delta = this.delta(module, x, shape);
    const own = hasGain ? graph.node('Mul', [y, this.gain(module, shape)]) : y;
    return graph.node('Add', [own, delta]);
  }

  /** b (a x), of the shape of y. */
  protected abstract delta(module: string, x: Value, shape: AdaptedShape): Value;
  /** By how much y counts; its shape broadcasts to that of y. */
  protected abstract gain(module: string, shape: AdaptedShape): Value;
}

/** The same adapters for all rows of a run. x [1, s, in], a [1, in, ranks], b [1, ranks, out], gain [1, out]. */
export class RunLora extends LoraLayer {
  protected delta(module: string, x: Value, { inSize, outSize }: AdaptedShape): Value {
    const { graph } = this;
    const a = graph.input(loraInput.a(module), 'float32', [1, inSize, 'lora_ranks']);
    const b = graph.input(loraInput.b(module), 'float32', [1, 'lora_ranks', outSize]);
    return graph.node('MatMul', [graph.node('MatMul', [x, a]), b]);
  }

  protected gain(module: string, { outSize }: AdaptedShape): Value {
    return this.graph.input(loraInput.gain(module), 'float32', [1, outSize]);
  }
}

/** The inputs that say which rows a unit serves. */
export interface RouteNames {
  readonly rows: string;
  readonly places: string;
  readonly shares: string;
  readonly units: string;
}

function routeNames(prefix: string): RouteNames {
  const [rows, places, shares, units] = ['rows', 'places', 'shares', 'units'].map((name) => `${prefix}.${name}`);
  return { rows, places, shares, units } as RouteNames;
}

/** Of the rows of a step. */
export const ROW_ROUTES = routeNames('lora');
/** Of the sources of a step's requests. */
export const SOURCE_ROUTES = routeNames('source_lora');

/**
 * Every row has adapters of its own. x and y [rows, …]; a [units, in, 16], b [units, 16, out], gain [units, out]: by how
 * much more than once y counts.
 *   lora.rows [units, n]: the rows that a unit serves; lora.places [rows, shares, 2]: the way back, (unit, place) of
 *   each share of a row; lora.shares [rows, 1, shares]: how much it counts, 0 for what pads the row; lora.units
 *   [rows, shares]: its unit.
 */
export class RowLora extends LoraLayer {
  private declared: RowRouting | undefined;
  /** By the value they were gathered from: matrices that share an input share its rows. */
  private readonly gathered = new Map<Value, Value>();
  /** By module: a graph may compute one in several places. */
  private readonly factors = new Map<string, UnitFactors>();

  constructor(
    graph: GraphBuilder,
    targets: LoraTargets,
    private readonly names = ROW_ROUTES,
  ) {
    super(graph, targets);
  }

  /** Declared by the first matrix that is adapted. */
  protected get routing(): RowRouting {
    this.declared ??= declareRouting(this.graph, this.names);
    return this.declared;
  }

  protected delta(module: string, x: Value, shape: AdaptedShape): Value {
    const { graph } = this;
    const { a, b } = this.factorsOf(module, shape);
    const byUnit = graph.node('MatMul', [graph.node('MatMul', [this.enter(x), a]), b]); // [units, n, out]
    const byShare = graph.node('GatherND', [byUnit, this.routing.places]); // [rows, shares, out]
    return this.sum(byShare, [shape.outSize]);
  }

  protected gain(module: string, shape: AdaptedShape): Value {
    const { graph } = this;
    const gain = this.factorsOf(module, shape).gain();
    const byShare = graph.node('Gather', [gain, this.routing.units()], { axis: 0 }); // [rows, shares, out]
    return graph.node('Add', [this.sum(byShare, [shape.outSize]), graph.weight('one', ONE)]);
  }

  /** Σ share · value of each row: [rows, shares, size] → [rows, ...dims]. */
  protected sum(byShare: Value, dims: readonly number[]): Value {
    const { graph } = this;
    // a product of 1 or 4 n shares sums alike, whatever the number of zeros that follow; ReduceSum does not
    const summed = graph.node('MatMul', [this.routing.shares, byShare]); // [rows, 1, size]
    return graph.node('Reshape', [summed, graph.integers(0, ...dims)]);
  }

  protected enter(x: Value): Value {
    const known = this.gathered.get(x);
    if (known !== undefined) return known;
    const entered = this.graph.node('Gather', [x, this.routing.rows], { axis: 0 }); // [units, n, in]
    this.gathered.set(x, entered);
    return entered;
  }

  protected factorsOf(module: string, { inSize, outSize }: AdaptedShape): UnitFactors {
    const { graph } = this;
    const known = this.factors.get(module);
    if (known !== undefined) return known;
    let gain: Value | undefined;
    const factors = {
      a: graph.input(loraInput.a(module), 'float32', ['lora_units', inSize, LORA_UNIT]),
      b: graph.input(loraInput.b(module), 'float32', ['lora_units', LORA_UNIT, outSize]),
      gain: () => {
        gain ??= graph.input(loraInput.gain(module), 'float32', ['lora_units', outSize]);
        return gain;
      },
    };
    this.factors.set(module, factors);
    return factors;
  }
}

/** As RowLora, of the sources of a step's requests: x and y [sources, s, …]. */
export class SourceLora extends RowLora {
  constructor(graph: GraphBuilder, targets: LoraTargets) {
    super(graph, targets, SOURCE_ROUTES);
  }

  protected override delta(module: string, x: Value, shape: AdaptedShape): Value {
    const { graph } = this;
    const { inSize, outSize } = shape;
    const { rows, places } = this.routing;
    const { a, b } = this.factorsOf(module, shape);
    const entered = graph.node('Reshape', [this.enter(x), graph.integers(0, -1, inSize)]); // [units, n·s, in]
    const products = graph.node('MatMul', [graph.node('MatMul', [entered, a]), b]);
    const rowCount = graph.size(rows, 1);
    const dims = graph.node('Concat', [graph.integers(0), rowCount, graph.integers(-1)], { axis: 0 });
    const byUnit = graph.node('Reshape', [products, dims]); // [units, n, s·out]
    return this.sum(graph.node('GatherND', [byUnit, places]), [-1, outSize]);
  }

  protected override gain(module: string, shape: AdaptedShape): Value {
    const { graph } = this;
    return graph.node('Reshape', [super.gain(module, shape), graph.integers(0, 1, shape.outSize)]);
  }
}

/** A matrix's factors of all units. */
interface UnitFactors {
  readonly a: Value;
  readonly b: Value;
  /** Declared where it is asked for. */
  readonly gain: () => Value;
}

interface RowRouting {
  readonly rows: Value;
  readonly places: Value;
  readonly shares: Value;
  /** Declared by the first matrix that has a gain. */
  readonly units: () => Value;
}

function declareRouting(graph: GraphBuilder, names: RouteNames): RowRouting {
  const dim = (size: string): string => `${names.rows}_${size}`;
  let units: Value | undefined;
  return {
    rows: graph.input(names.rows, 'int32', ['lora_units', dim('count')]),
    places: graph.input(names.places, 'int64', [dim('served'), dim('shares'), 2]),
    shares: graph.input(names.shares, 'float32', [dim('served'), 1, dim('shares')]),
    units: () => {
      units ??= graph.input(names.units, 'int32', [dim('served'), dim('shares')]);
      return units;
    },
  };
}
