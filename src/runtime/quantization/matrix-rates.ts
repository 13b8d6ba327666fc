/** How fast this machine multiplies, in float32 and in 8 bits: measured, not guessed from a name. */
import { GraphBuilder } from '../graph/graph-builder.ts';
import { createProducts } from '../graph/matrix-products.ts';
import { ROW_ZEROS, rowZeros } from '../graph/quantized-linear.ts';
import { Session } from '../session.ts';
import { floatTensor } from '../tensor.ts';
import type { WeightRange } from './quantize-rows.ts';

export interface MatrixRate {
  readonly rows: number;
  /** 10⁹ additions and multiplications a second. */
  readonly float32: number;
  /** With the rows quantized on the way. */
  readonly int8: number;
}

/** A feed-forward matrix of a base-sized model. */
const [IN_SIZE, OUT_SIZE] = [768, 2048];
/** A matrix that no processor's cache holds: 128 MiB. */
const [LARGE_IN_SIZE, LARGE_OUT_SIZE] = [4096, 8192];
/** What is multiplied: the time does not depend on it. */
const ANY = 0.5;
const ROWS = [1, 8, 32, 256];
const MEASURE_MS = 100;
const LEAST_RUNS = 3;

/** `range`: of 8-bit weights. Takes about a second. */
export async function measureRates(threadCount: number, range: WeightRange): Promise<readonly MatrixRate[]> {
  const float32 = await openProduct(threadCount, undefined, IN_SIZE, OUT_SIZE);
  const int8 = await openProduct(threadCount, range, IN_SIZE, OUT_SIZE);
  try {
    const rates: MatrixRate[] = [];
    for (const rows of ROWS) {
      rates.push({ rows, float32: await rateOf(float32, rows), int8: await rateOf(int8, rows) });
    }
    return rates;
  } finally {
    await float32.dispose();
    await int8.dispose();
  }
}

/** 10⁹ bytes a second that a product of one row reads of a matrix: what bounds the steps of few rows. */
export async function measureMemoryRate(threadCount: number): Promise<number> {
  const session = await openProduct(threadCount, undefined, LARGE_IN_SIZE, LARGE_OUT_SIZE);
  try {
    return (
      (LARGE_IN_SIZE * LARGE_OUT_SIZE * Float32Array.BYTES_PER_ELEMENT) /
      (1e6 * (await fastest(session, 1, LARGE_IN_SIZE)))
    );
  } finally {
    await session.dispose();
  }
}

function openProduct(
  threadCount: number,
  range: WeightRange | undefined,
  inSize: number,
  outSize: number,
): Promise<Session> {
  const graph = new GraphBuilder('matrix-rate');
  const x = graph.input('x', 'float32', ['rows', inSize]);
  const matrix = new Float32Array(inSize * outSize).fill(ANY);
  const products = createProducts(graph, range === undefined ? 'float32' : { range, rowBytes: 1 });
  graph.output(products.product(x, 'matrix', matrix, inSize), 'y', 'float32', ['rows', outSize]);
  return Session.create(graph.build(), { threadCount });
}

async function rateOf(session: Session, rows: number): Promise<number> {
  return (2 * rows * IN_SIZE * OUT_SIZE) / (1e6 * (await fastest(session, rows, IN_SIZE)));
}

/** Milliseconds of the fastest run: others of the machine only ever make it slower. */
async function fastest(session: Session, rows: number, inSize: number): Promise<number> {
  const x = floatTensor(new Float32Array(rows * inSize).fill(ANY), [rows, inSize]);
  let best = Number.POSITIVE_INFINITY;
  const begun = performance.now();
  for (let run = 0; run < LEAST_RUNS || performance.now() - begun < MEASURE_MS; run++) {
    const start = performance.now();
    await session.run({ x, [ROW_ZEROS]: rowZeros(rows) }, ['y']);
    best = Math.min(best, performance.now() - start);
  }
  return best;
}
