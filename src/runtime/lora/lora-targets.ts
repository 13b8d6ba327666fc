/** Which matrices need LoRA inputs, so that given adapters can run. */
import type { LoraTargets } from '../graph/lora.ts';
import type { LoraWeights } from './lora-weights.ts';

export const noTargets: LoraTargets = { modules: new Set(), gains: new Set() };

export function targetsOf(adapters: Iterable<LoraWeights>): LoraTargets {
  const modules = new Set<string>();
  const gains = new Set<string>();
  for (const { factors } of adapters) {
    for (const { module, gainChange } of factors) {
      modules.add(module);
      if (gainChange !== undefined) gains.add(module);
    }
  }
  return { modules, gains };
}

export function joinTargets(one: LoraTargets, other: LoraTargets): LoraTargets {
  return {
    modules: new Set([...one.modules, ...other.modules]),
    gains: new Set([...one.gains, ...other.gains]),
  };
}

/** The targets but for these modules. */
export function withoutModules({ modules, gains }: LoraTargets, left: ReadonlySet<string>): LoraTargets {
  const others = (paths: ReadonlySet<string>): ReadonlySet<string> =>
    new Set([...paths].filter((path) => !left.has(path)));
  return { modules: others(modules), gains: others(gains) };
}

/** Whether graphs with the targets of `have` can run what needs those of `need`. */
export function covers(have: LoraTargets, need: LoraTargets): boolean {
  const within = (inner: ReadonlySet<string>, outer: ReadonlySet<string>) =>
    [...inner].every((path) => outer.has(path));
  return within(need.modules, have.modules) && within(need.gains, have.gains);
}
