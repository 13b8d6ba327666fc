/**
 * Products in 8 bits as graph nodes. A row is quantized by its own largest number, so that what it gets does not depend on
 * who shares its batch: sums of integers are exact in any order. Rows are unsigned around 128, weights are signed: the one
 * pair of types that onnxruntime has fast kernels for on every processor.
 */
import { byteTensor, floatTensor, type TensorValue } from '../tensor.ts';
import type { GraphBuilder, Value } from './graph-builder.ts';

/** Largest quantized number of a row, before 128 is added. */
export const LARGEST_BYTE = 127;
/** What stands for zero. */
export const ROW_ZERO = 128;
/** The input of every graph with quantized rows: ROW_ZERO for each of them. */
export const ROW_ZEROS = 'row_zeros';

export function rowZeros(rowCount: number): TensorValue {
  return byteTensor(new Uint8Array(rowCount).fill(ROW_ZERO), [rowCount]);
}

/** An 8-bit matrix, transposed as the product takes it. */
export interface QuantizedMatrix {
  /** [in, out] */
  readonly weights: Int8Array;
  /** [out]: what a unit of a column stands for. */
  readonly scales: Float32Array;
}

/** x [rows, in], uint8 around 128, × the matrix → float32 [rows, out], in units of each row's own scale. */
export function integerProduct(
  graph: GraphBuilder,
  x: Value,
  name: string,
  { weights, scales }: QuantizedMatrix,
): Value {
  const outSize = scales.length;
  return graph.node('MatMulIntegerToFloat', [
    x,
    graph.weight(name, byteTensor(weights, [weights.length / outSize, outSize])),
    graph.weight('row_scale', floatTensor(new Float32Array([1]), [])),
    graph.weight('scales', floatTensor(scales, [outSize])),
    graph.weight('row_zero', byteTensor(new Uint8Array([ROW_ZERO]), [])),
    graph.weight('zero', byteTensor(new Int8Array(1), [])),
  ]);
}

interface QuantizedRows {
  /** [rows, in], uint8 around 128. */
  readonly values: Value;
  /** [rows, 1] */
  readonly scales: Value;
}

/** Quantizes rows; those that several matrices read are quantized once. */
export class RowQuantizer {
  private readonly known = new Map<Value, QuantizedRows>();
  private zeros: Value | undefined;

  constructor(private readonly graph: GraphBuilder) {}

  /** x [rows, in] */
  quantize(x: Value): QuantizedRows {
    const known = this.known.get(x);
    if (known !== undefined) return known;
    const { graph } = this;
    const unit = graph.constant('byte_unit', floatTensor(Float32Array.of(1 / LARGEST_BYTE), []));
    const largest = graph.node('ReduceMax', [graph.node('Abs', [x]), graph.integers(-1)], { keepdims: 0 });
    // a row of zeros has a scale of zero and bytes without a meaning, which the scale makes zeros again
    const scales = graph.node('Mul', [largest, unit]); // [rows]
    const rows = {
      values: graph.node('QuantizeLinear', [x, scales, this.declareZeros()], { axis: 0 }),
      scales: graph.node('Reshape', [scales, graph.integers(-1, 1)]),
    };
    this.known.set(x, rows);
    return rows;
  }

  private declareZeros(): Value {
    this.zeros ??= this.graph.input(ROW_ZEROS, 'uint8', ['quantized_rows']);
    return this.zeros;
  }
}
