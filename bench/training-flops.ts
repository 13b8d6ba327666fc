/** Arithmetic of a step of training and of the machine: what share of its matrix products' limit a step reaches. */
import { GraphBuilder, type Value } from '../src/runtime/graph/graph-builder.ts';
import { HEAD_PATH } from '../src/runtime/models/linear-module.ts';
import type { T5Config } from '../src/runtime/models/model-config.ts';
import { Session } from '../src/runtime/session.ts';
import { readsSource, t5LinearModules } from '../src/runtime/t5/t5-modules.ts';
import { floatTensor } from '../src/runtime/tensor.ts';

export interface StepShape {
  readonly batchSize: number;
  readonly sourceLength: number;
  readonly targetLength: number;
}

/**
 * Additions and multiplications of the matrix products of a step: forward once, backward once for what flows back, and
 * once more for the gradients of weights that are trained. A product of the way back counts only where it is needed: in
 * LoRA the first layers need none, which is left out of account. Factors of adapters are small and left out, too.
 */
export function stepFlops(
  config: T5Config,
  full: boolean,
  { batchSize, sourceLength: s, targetLength: t }: StepShape,
): number {
  const passes = full ? 3 : 2;
  let products = 0;
  for (const { path, inSize, outSize } of t5LinearModules(config)) {
    products += passes * 2 * inSize * outSize * (path === HEAD_PATH || !readsSource(path) ? t : s);
  }
  const inner = config.headCount * config.headSize;
  // scores and weighted values, each with two products on the way back
  const attention = (queries: number, keys: number): number => 3 * 2 * 2 * inner * queries * keys;
  products += config.encoderLayerCount * attention(s, s);
  products += config.decoderLayerCount * (attention(t, t) + attention(t, s));
  return batchSize * products;
}

const SIDE = 1024;
const TRIES = 10;

/** Floating-point operations a second of a bare product of two square matrices: the best of some. */
export async function productLimit(threadCount: number): Promise<number> {
  const graph = new GraphBuilder('product');
  const [left, right] = ['left', 'right'].map((name) => graph.input(name, 'float32', [SIDE, SIDE]));
  graph.writeInPlace();
  graph.output(graph.node('MatMul', [left as Value, right as Value]), 'product', 'float32', [SIDE, SIDE]);
  const session = await Session.create(graph.build(), { threadCount });
  const matrix = (): ReturnType<typeof floatTensor> =>
    floatTensor(
      Float32Array.from({ length: SIDE * SIDE }, (_, index) => (index % 7) - 3),
      [SIDE, SIDE],
    );
  const feeds = { left: matrix(), right: matrix() };
  const outputs = { product: matrix() };
  let best = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const begun = performance.now();
    await session.runInto(feeds, outputs);
    best = Math.min(best, performance.now() - begun);
  }
  await session.dispose();
  return (2 * SIDE ** 3 * 1000) / best;
}
