/** Products with the matrices that a graph holds, in float32 or in 8 bits. */
import { quantizeRows } from '../quantization/quantize-rows.ts';
import { floatTensor } from '../tensor.ts';
import type { GraphBuilder, Value } from './graph-builder.ts';
import { linear } from './layers.ts';
import { type Int8Format, RowQuantizer } from './quantized-linear.ts';

export interface MatrixProducts {
  /** x [.., inSize] × the matrix, which lies as [outSize, inSize]. → [.., outSize] */
  product(x: Value, name: string, matrix: Float32Array, inSize: number): Value;
}

class FloatProducts implements MatrixProducts {
  constructor(private readonly graph: GraphBuilder) {}

  product(x: Value, name: string, matrix: Float32Array, inSize: number): Value {
    const { graph } = this;
    return linear(graph, x, graph.weight(name, floatTensor(matrix, [matrix.length / inSize, inSize])));
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

/** `int8` undefined: float32. */
export function createProducts(graph: GraphBuilder, int8: Int8Format | undefined, isBatched = false): MatrixProducts {
  return int8 === undefined ? new FloatProducts(graph) : new IntegerProducts(graph, int8, isBatched);
}
