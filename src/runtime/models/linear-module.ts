/** A matrix of a model, as PEFT sees it: a module that takes adapters. */
export interface LinearModule {
  /** `decoder.block.0.layer.0.SelfAttention.q`: its weight is this and `.weight`. */
  readonly path: string;
  readonly inSize: number;
  readonly outSize: number;
}

/** The output head's path; where the head is tied, its weight is the embedding table. */
export const HEAD_PATH = 'lm_head';

/** The last parts of the paths, each once, in the order of the modules: q, k, v, … */
export function moduleEndings(modules: readonly LinearModule[]): readonly string[] {
  return [...new Set(modules.map(({ path }) => path.slice(path.lastIndexOf('.') + 1)))];
}

/**
 * The paths of all modules with tensors that are not linear, and of what holds any. `emptyIn`: the modules without
 * tensors that a holder has, by their paths.
 */
export function pathsBeside(
  linear: readonly LinearModule[],
  tensorNames: Iterable<string>,
  emptyIn: (holder: string) => readonly string[],
): Set<string> {
  const linearPaths = new Set(linear.map(({ path }) => path));
  const others = new Set<string>();
  for (const name of tensorNames) {
    const path = name.replace(/\.(weight|bias)$/, '');
    if (!linearPaths.has(path)) others.add(path);
    for (const holder of holdersOf(path)) for (const other of [holder, ...emptyIn(holder)]) others.add(other);
  }
  return others;
}

/** The paths of what holds a module of this path: all that end before one of its dots. */
function holdersOf(path: string): readonly string[] {
  const parts = path.split('.');
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join('.'));
}
