/** Which 8-bit weights this processor multiplies exactly: it is asked. */
import { GraphBuilder } from '../graph/graph-builder.ts';
import { integerProduct, ROW_ZERO } from '../graph/quantized-linear.ts';
import { Session } from '../session.ts';
import { byteTensor } from '../tensor.ts';
import { WEIGHT_RANGES, type WeightRange } from './quantize-rows.ts';

/** Rows and columns of the weights that are tried. */
const SIZE = 64;
/** Of what a row is multiplied as. */
const LARGEST_UNSIGNED = 255;

/** Weights [SIZE, SIZE] of a range whose sums are as large as they get, wherever a kernel looks for a weight's neighbour. */
function extremeWeights({ single, pair }: WeightRange): Int8Array {
  const [large, small] = [single, Math.min(single, pair + 1 - single)];
  const half = Math.min(single, Math.ceil(pair / 2));
  const patterns = [
    [large, small, large, small],
    [small, large, small, large],
    [large, small, small, large],
    [half, half, half, half],
  ];
  const columns = patterns.flatMap((pattern) => [pattern, pattern.map((weight) => -weight)]);
  return Int8Array.from({ length: SIZE * SIZE }, (_, index) => {
    const column = columns[index % columns.length] as readonly number[];
    return column[Math.floor(index / SIZE) % column.length] as number;
  });
}

async function isExact(range: WeightRange, threadCount: number): Promise<boolean> {
  const weights = extremeWeights(range);
  const graph = new GraphBuilder('exact-range');
  const rows = graph.input('rows', 'uint8', ['rows', SIZE]);
  const matrix = { weights, scales: new Float32Array(SIZE).fill(1) };
  graph.output(integerProduct(graph, rows, 'weights', matrix), 'sums', 'float32', ['rows', SIZE]);
  const session = await Session.create(graph.build(), { threadCount });
  const sums = Array.from({ length: SIZE }, (_, column) => {
    let sum = 0;
    for (let row = 0; row < SIZE; row++)
      sum += (LARGEST_UNSIGNED - ROW_ZERO) * (weights[row * SIZE + column] as number);
    return sum;
  });
  try {
    // a single row and several take different kernels
    for (const count of [1, 16]) {
      const tried = byteTensor(new Uint8Array(count * SIZE).fill(LARGEST_UNSIGNED), [count, SIZE]);
      const found = (await session.run({ rows: tried }, ['sums'])).floats('sums');
      if (found.some((sum, place) => sum !== sums[place % SIZE])) return false;
    }
    return true;
  } finally {
    await session.dispose();
  }
}

/** The range that loses least, of those whose sums are exact. */
export async function finestExactRange(threadCount: number): Promise<WeightRange> {
  const [whole, pairs, coarsest] = WEIGHT_RANGES;
  if (await isExact(whole, threadCount)) return whole;
  return (await isExact(pairs, threadCount)) ? pairs : coarsest;
}
