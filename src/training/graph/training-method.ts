/** What is trained: every weight, or the factors of a LoRA adapter beside frozen weights. Names are those of the files. */
import type { LinearModule } from '../../runtime/models/linear-module.ts';

/** Hu et al. 2021, https://arxiv.org/abs/2106.09685. */
export interface LoraTraining {
  readonly method: 'lora';
  /** Paths of the matrices that are adapted. */
  readonly modules: ReadonlySet<string>;
  readonly rank: number;
  /** What b (a x) counts: alpha / rank, or alpha / sqrt(rank) with rsLoRA. */
  readonly scaling: number;
  /** Whether what the factors read is multiplied by masks, which every run feeds. Default false. */
  readonly dropout?: boolean;
}

export type TrainingMethod = { readonly method: 'full' } | LoraTraining;

const PREFIX = 'base_model.model.';

/** PEFT's names of the factors of a module. */
export const factorName = {
  a: (module: string): string => `${PREFIX}${module}.lora_A.weight`,
  b: (module: string): string => `${PREFIX}${module}.lora_B.weight`,
} as const;

/** Name → shape of the factors of adapted matrices: A [rank, in], B [out, rank]. */
export function factorShapes(
  { modules, rank }: LoraTraining,
  linearModules: readonly LinearModule[],
): ReadonlyMap<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>();
  for (const { path, inSize, outSize } of linearModules) {
    if (!modules.has(path)) continue;
    shapes.set(factorName.a(path), [rank, inSize]).set(factorName.b(path), [outSize, rank]);
  }
  return shapes;
}
