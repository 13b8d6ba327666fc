/**
 * Attention to a source whose keys and values are kept in 8 bits, a quarter of the memory that a step reads of them.
 * Each column of a head's keys and values has a scale over the whole source. Sums are integers, exact in any order: what
 * a query gets depends on nobody else. Both sides are unsigned, the pair of types that no processor saturates (signed
 * weights would have to be held to 7 bits where there is no VNNI).
 */
import { invariant } from '../errors.ts';
import { byteTensor } from '../tensor.ts';
import type { HeadShape } from './attention.ts';
import { FLOAT32, type GraphBuilder, type Value } from './graph-builder.ts';
import { LARGEST_BYTE, ROW_ZERO } from './quantized-linear.ts';

/** Probabilities are not negative: they use the whole byte. */
const LARGEST_SHARE = 255;

/** The keys and values of sources. */
export interface QuantizedSource {
  /** [b, H, dk, s], uint8 around 128: as the product takes them */
  readonly keys: Value;
  /** [b, H, 1, dk] */
  readonly keyScales: Value;
  /** [b, H, s, dk], uint8 around 128 */
  readonly values: Value;
  /** [b, H, 1, dk] */
  readonly valueScales: Value;
}

/** The inputs of `quantizedSourceCache`. */
export function quantizedSource([keys, keyScales, values, valueScales]: readonly Value[]): QuantizedSource {
  const isWhole = keys !== undefined && keyScales !== undefined && values !== undefined && valueScales !== undefined;
  invariant(isWhole, 'the whole source is cached');
  return { keys, keyScales, values, valueScales };
}

function zeroPoint(graph: GraphBuilder, value: number): Value {
  return graph.constant(`zero_point/${value}`, byteTensor(Uint8Array.of(value), []));
}

/** x ≈ (values − 128) · scales. */
interface QuantizedValues {
  readonly values: Value;
  readonly scales: Value;
}

/**
 * All numbers along `axis` share a scale. Zeros alone make a scale of zero and, by 0 / 0, bytes without a meaning, which
 * the scale makes zeros again; a number that is none makes a scale that is none.
 */
function quantizeAlong(graph: GraphBuilder, x: Value, axis: number): QuantizedValues {
  const reduce = (operator: string, value: Value): Value =>
    graph.node(operator, [value, graph.integers(axis)], { keepdims: 1 });
  const largest = reduce('ReduceMax', graph.node('Abs', [x]));
  // zero or NaN, which ReduceMax passes over at most places
  const broken = reduce('ReduceSum', graph.node('Mul', [x, graph.scalar('nought', 0)]));
  const unit = graph.scalar('byte_unit', 1 / LARGEST_BYTE);
  const scales = graph.node('Mul', [graph.node('Add', [largest, broken]), unit]);
  return { values: round(graph, graph.node('Div', [x, scales]), ROW_ZERO), scales };
}

/** To the nearest integers, as bytes around `zero`. */
function round(graph: GraphBuilder, x: Value, zero: number): Value {
  return graph.node('QuantizeLinear', [x, graph.scalar('one', 1), zeroPoint(graph, zero)]);
}

/**
 * Keys and values [b, s, H·dk] as the cache keeps them. `present` [b, s, 1]: 1 for the source's tokens, 0 for what pads
 * it, which has no say in the scales.
 */
export function quantizeSource(
  graph: GraphBuilder,
  rows: { readonly keys: Value; readonly values: Value },
  present: Value,
  { headCount, headSize }: HeadShape,
): QuantizedSource {
  const byHead = (x: Value): Value =>
    graph.node('Reshape', [graph.node('Mul', [x, present]), graph.integers(0, 0, headCount, headSize)]);
  const turn = (x: Value, ...perm: readonly number[]): Value => graph.node('Transpose', [x], { perm });
  const keys = quantizeAlong(graph, byHead(rows.keys), 1); // [b, s, H, dk], scales [b, 1, H, dk]
  const values = quantizeAlong(graph, byHead(rows.values), 1);
  return {
    keys: turn(keys.values, 0, 2, 3, 1),
    keyScales: turn(keys.scales, 0, 2, 1, 3),
    values: turn(values.values, 0, 2, 1, 3),
    valueScales: turn(values.scales, 0, 2, 1, 3),
  };
}

/** softmax(queries × keysᵀ + mask) × values, as `attend`; queries [b, H, q, dk], the mask broadcasts to [b, H, q, s]. */
export function attendQuantized(
  graph: GraphBuilder,
  queries: Value,
  { keys, keyScales, values, valueScales }: QuantizedSource,
  mask: Value,
): Value {
  const middle = zeroPoint(graph, ROW_ZERO);
  const multiply = (x: Value, y: Value, zero: Value): Value =>
    graph.node('Cast', [graph.node('MatMulInteger', [x, y, zero, middle])], { to: FLOAT32 });
  // the scales of the keys' columns count in the queries' columns as well
  const rows = quantizeAlong(graph, graph.node('Mul', [queries, keyScales]), -1);
  const scores = graph.node('Mul', [multiply(rows.values, keys, middle), rows.scales]);
  const probabilities = graph.node('Softmax', [graph.node('Add', [scores, mask])], { axis: -1 });
  // in units of the largest share of the query, so that many small ones are not all rounded to nothing
  const largest = graph.node('ReduceMax', [probabilities, graph.integers(-1)], { keepdims: 1 });
  const unit = graph.node('Mul', [largest, graph.scalar('share_unit', 1 / LARGEST_SHARE)]);
  const shares = round(graph, graph.node('Div', [probabilities, unit]), 0);
  const attended = multiply(shares, values, zeroPoint(graph, 0));
  return graph.node('Mul', [attended, graph.node('Mul', [valueScales, unit])]);
}
