/** Products with the matrices that a graph holds, in float32, in float16 or in 8 bits. */
import { fromFloat32 } from '../../storage/float-conversion.ts';
import { RuntimeError } from '../errors.ts';
import { quantizeRows } from '../quantization/quantize-rows.ts';
import { ByMemory, floatTensor } from '../tensor.ts';
import { FLOAT16, FLOAT32, type GraphBuilder, type Value } from './graph-builder.ts';
import { linear } from './layers.ts';
import { type Int8Format, RowQuantizer } from './quantized-linear.ts';

export type FloatFormat = 'float32' | 'float16';
export type MatrixFormat = FloatFormat | Int8Format;

export interface MatrixProducts {
  /** x [.., inSize] × the matrix, which lies as [outSize, inSize]. → [.., outSize] */
  product(x: Value, name: string, matrix: Float32Array, inSize: number): Value;
}

/** Where rows of matrices are looked up as well. */
export interface FloatingProducts extends MatrixProducts {
  /** The rows [.., size] of a table [n, size] at `places` [..], in float32. */
  rows(places: Value, name: string, table: Float32Array, size: number): Value;
}

class FloatProducts implements FloatingProducts {
  constructor(private readonly graph: GraphBuilder) {}

  product(x: Value, name: string, matrix: Float32Array, inSize: number): Value {
    const { graph } = this;
    return linear(graph, x, graph.weight(name, floatTensor(matrix, [matrix.length / inSize, inSize])));
  }

  rows(places: Value, name: string, table: Float32Array, size: number): Value {
    const { graph } = this;
    return graph.node('Gather', [graph.weight(name, floatTensor(table, [table.length / size, size])), places], {
      axis: 0,
    });
  }
}

class IntegerProducts implements MatrixProducts {
  private readonly rows: RowQuantizer;
  /** By the value that it was made of: matrices that share an input share its rows. */
  private readonly flat = new Map<Value, Value>();

  constructor(
    private readonly graph: GraphBuilder,
    private readonly format: Int8Format,
    /** Whether x is [1, rows, in] rather than [rows, in]. */
    private readonly isBatched: boolean,
  ) {
    this.rows = new RowQuantizer(graph, format.rowBytes);
  }

  product(x: Value, name: string, matrix: Float32Array, inSize: number): Value {
    const { graph } = this;
    const y = this.rows.product(this.flatten(x, inSize), name, quantizeRows(matrix, inSize, this.format.range));
    return this.isBatched ? graph.node('Reshape', [y, graph.integers(1, -1, matrix.length / inSize)]) : y;
  }

  private flatten(x: Value, inSize: number): Value {
    if (!this.isBatched) return x;
    const flat = this.flat.get(x) ?? this.graph.node('Reshape', [x, this.graph.integers(-1, inSize)]);
    this.flat.set(x, flat);
    return flat;
  }
}

/**
 * Matrices in float16, rows made float16 for each product and float32 again behind it: what is summed up over layers,
 * normalized or attended to stays in float32.
 */
class HalfProducts implements FloatingProducts {
  private readonly floats: FloatProducts;
  /** A graph may use a matrix in several places, under several names. */
  private readonly halves = new ByMemory<Uint16Array>();
  /** By the value that it was made of: matrices that share an input share its rows. */
  private readonly rounded = new Map<Value, Value>();

  constructor(
    private readonly graph: GraphBuilder,
    private readonly staysFloat32: (name: string) => boolean,
  ) {
    this.floats = new FloatProducts(graph);
  }

  product(x: Value, name: string, matrix: Float32Array, inSize: number): Value {
    const { graph } = this;
    if (this.staysFloat32(name)) return this.floats.product(x, name, matrix, inSize);
    const half = this.rounded.get(x) ?? this.kept(graph.node('Cast', [x], { to: FLOAT16 }));
    this.rounded.set(x, half);
    const y = this.kept(linear(graph, half, this.weight(name, matrix, inSize)));
    return graph.node('Cast', [y], { to: FLOAT32 });
  }

  rows(places: Value, name: string, table: Float32Array, size: number): Value {
    const { graph } = this;
    const rows = graph.node('Gather', [this.weight(name, table, size), places], { axis: 0 });
    return graph.node('Cast', [rows], { to: FLOAT32 });
  }

  /**
   * The CPU provider has no products in float16: it casts to float32 and back around them, and takes away casts that meet
   * their reverse, with the rounding in between. A Reshape, which moves nothing, keeps them apart, so that what is tested
   * there is what CUDA computes.
   */
  private kept(half: Value): Value {
    const { graph } = this;
    return graph.node('Reshape', [half, graph.node('Shape', [half])]);
  }

  private weight(name: string, matrix: Float32Array, columns: number): Value {
    const dims = [matrix.length / columns, columns];
    const data = this.halves.get(matrix, dims, () => toHalf(name, matrix));
    return this.graph.weight(name, { data, dims });
  }
}

/** Throws RuntimeError INVALID_MODEL for numbers beyond the range of float16. */
function toHalf(name: string, matrix: Float32Array): Uint16Array {
  const bytes = fromFloat32(matrix, 'F16');
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, matrix.length);
  const tooLarge = halves.findIndex((half) => (half & INFINITE_HALF) === INFINITE_HALF);
  if (tooLarge < 0) return halves;
  const message = `Expected weights within ±65504, the range of FP16; ${name} has ${matrix[tooLarge]}. Load the model as FP32.`;
  throw new RuntimeError('INVALID_MODEL', message);
}

/** All bits of the exponent. */
const INFINITE_HALF = 0x7c00;

/** `isBatched`: whether x is [1, rows, in] rather than [rows, in], in 8 bits. */
export function createProducts(graph: GraphBuilder, format: MatrixFormat, isBatched = false): MatrixProducts {
  return typeof format === 'string'
    ? createFloatingProducts(graph, format)
    : new IntegerProducts(graph, format, isBatched);
}

/** `staysFloat32`: the matrices, by name, that are in float32 where others are in float16. Default: none. */
export function createFloatingProducts(
  graph: GraphBuilder,
  format: FloatFormat,
  staysFloat32: (name: string) => boolean = () => false,
): FloatingProducts {
  return format === 'float32' ? new FloatProducts(graph) : new HalfProducts(graph, staysFloat32);
}
