/**
 * Products in 8 bits as graph nodes. A row is quantized by its own largest number, so that what it gets does not depend on
 * who shares its batch: sums of integers are exact in any order. Rows are unsigned around 128, weights are signed: the one
 * pair of types that onnxruntime has fast kernels for on every processor.
 */

import type { WeightRange } from '../quantization/quantize-rows.ts';
import { byteTensor, floatTensor, type TensorValue } from '../tensor.ts';
import type { GraphBuilder, Value } from './graph-builder.ts';
import { linear } from './layers.ts';

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
    graph.scalar('one', 1),
    graph.weight('scales', floatTensor(scales, [outSize])),
    graph.constant('row_zero', byteTensor(Uint8Array.of(ROW_ZERO), [])),
    graph.constant('weight_zero', byteTensor(Int8Array.of(0), [])),
  ]);
}

/** How a model's matrices and the rows that meet them are held. */
export interface Int8Format {
  readonly range: WeightRange;
  /**
   * Of a number of a row. With one byte a row's largest number sets the step of all others; where single channels are
   * hundreds of times as large as the rest, as decoder-only models have them, little is left of those. The second byte
   * holds what the first one left, in steps of 1/254 of its own: the same weights, twice the rows.
   */
  readonly rowBytes: 1 | 2;
}

/** Rows as products take them. */
interface QuantizedRows {
  /** [rowBytes · rows, in], uint8 around 128: all first bytes, then all second ones. */
  readonly values: Value;
  /** [rows, 1]: what a unit of the last byte stands for. */
  readonly scales: Value;
}

/** Steps of the second byte in one of the first: half of one is the largest number of a byte. */
const SECOND_STEPS = 2 * LARGEST_BYTE;

/** Quantizes rows; those that several matrices read are quantized once. */
export class RowQuantizer {
  private readonly known = new Map<Value, QuantizedRows>();
  private zeros: Value | undefined;

  constructor(
    private readonly graph: GraphBuilder,
    private readonly rowBytes: Int8Format['rowBytes'],
  ) {}

  /** x [rows, in] × the matrix, [rows, out]. */
  product(x: Value, name: string, matrix: QuantizedMatrix): Value {
    const { graph } = this;
    const { values, scales } = this.quantize(x, matrix.weights.length / matrix.scales.length);
    const sums = integerProduct(graph, values, name, matrix);
    if (this.rowBytes === 1) return graph.node('Mul', [sums, scales]);
    const [first, second] = graph.nodeWithOutputs('Split', [sums], { axis: 0, num_outputs: 2 }, 2);
    const coarse = graph.node('Mul', [first as Value, graph.scalar('second_steps', SECOND_STEPS)]);
    return graph.node('Mul', [graph.node('Add', [coarse, second as Value]), scales]);
  }

  private quantize(x: Value, size: number): QuantizedRows {
    const known = this.known.get(x);
    if (known !== undefined) return known;
    const { graph } = this;
    // a row of zeros has a scale of zero and bytes without a meaning, which the scale makes zeros again
    const steps = graph.node('Mul', [this.largestOrNaN(x, size), graph.scalar('byte_unit', 1 / LARGEST_BYTE)]); // [rows]
    const rows = this.rowBytes === 1 ? this.oneByte(x, steps) : this.twoBytes(x, steps);
    this.known.set(x, rows);
    return rows;
  }

  /**
   * The largest |number| of each row of x [rows, size] → [rows], NaN for a row that has one: onnxruntime's ReduceMax
   * passes over NaN at most places, and a row that overflowed would go on as if it had not. Products with zero are zero
   * or NaN. The zeros are the row, not the column: the kernel for a column is many times slower.
   */
  private largestOrNaN(x: Value, size: number): Value {
    const { graph } = this;
    const largest = graph.node('ReduceMax', [graph.node('Abs', [x]), graph.integers(-1)], { keepdims: 0 });
    const zeros = graph.constant(`zeros/${size}`, floatTensor(new Float32Array(size), [1, size]));
    const broken = graph.node('Reshape', [linear(graph, zeros, x), graph.integers(-1)]);
    return graph.node('Add', [largest, broken]);
  }

  private oneByte(x: Value, steps: Value): QuantizedRows {
    return { values: this.round(x, steps), scales: this.column(steps) };
  }

  private twoBytes(x: Value, steps: Value): QuantizedRows {
    const { graph } = this;
    const first = this.round(x, steps);
    const coarse = graph.node('DequantizeLinear', [first, steps, this.declareZeros()], { axis: 0 });
    const smallSteps = graph.node('Mul', [steps, graph.scalar('second_unit', 1 / SECOND_STEPS)]);
    const second = this.round(graph.node('Sub', [x, coarse]), smallSteps);
    return { values: graph.node('Concat', [first, second], { axis: 0 }), scales: this.column(smallSteps) };
  }

  /** `steps` [rows] */
  private round(x: Value, steps: Value): Value {
    return this.graph.node('QuantizeLinear', [x, steps, this.declareZeros()], { axis: 0 });
  }

  private column(steps: Value): Value {
    return this.graph.node('Reshape', [steps, this.graph.integers(-1, 1)]);
  }

  private declareZeros(): Value {
    this.zeros ??= this.graph.input(ROW_ZEROS, 'uint8', ['quantized_rows']);
    return this.zeros;
  }
}
