/** Adapters in memory, with seeded random factors. */
import type { LoraFactors, LoraWeights } from '../../src/runtime/lora/lora-weights.ts';
import type { ModelConfig } from '../../src/runtime/models/model-config.ts';
import { linearModules } from '../../src/runtime/models/model-modules.ts';
import { seededNumbers } from './seeded-numbers.ts';

export interface RandomAdapterOptions {
  readonly seed: number;
  readonly rank: number;
  /** Last parts of the paths of the modules that it changes. */
  readonly targets: readonly string[];
  readonly dora?: boolean;
  readonly zeroB?: boolean;
}

export function randomAdapter(config: ModelConfig, options: RandomAdapterOptions): LoraWeights {
  const { seed, rank, targets, dora = false, zeroB = false } = options;
  const next = seededNumbers(seed);
  const around = (length: number, scale: number): Float32Array =>
    Float32Array.from({ length }, () => (next() - 0.5) * scale);
  const factors: LoraFactors[] = [];
  for (const { path, inSize, outSize } of linearModules(config)) {
    if (!targets.some((target) => `.${path}`.endsWith(`.${target}`))) continue;
    factors.push({
      module: path,
      rank,
      // in whatever order: the numbers are random
      a: around(rank * inSize, 4 / Math.sqrt(inSize)),
      b: zeroB ? new Float32Array(rank * outSize) : around(rank * outSize, 1 / Math.sqrt(rank)),
      gainChange: dora ? around(outSize, 0.5) : undefined,
    });
  }
  return { factors, head: undefined };
}
