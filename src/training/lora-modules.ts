/** Which matrices of a model a training of LoRA adapts: named as PEFT's `target_modules` names them. */
import { RuntimeError } from '../runtime/errors.ts';
import { HEAD_PATH, type LinearModule, moduleEndings } from '../runtime/models/linear-module.ts';
import type { ModelConfig } from '../runtime/models/model-config.ts';
import { defaultLoraTargets, linearModules } from '../runtime/models/model-modules.ts';

/** The one name that means every matrix but the output head. */
const ALL_LINEAR = 'all-linear';

function isNamed(path: string, name: string): boolean {
  return path === name || path.endsWith(`.${name}`);
}

/** In the order of the model. Throws RuntimeError BAD_USER_INPUT when a name means none. */
export function selectLoraModules(config: ModelConfig, names: readonly string[]): readonly LinearModule[] {
  const linear = linearModules(config);
  if (names.length === 1 && names[0] === ALL_LINEAR) return linear.filter(({ path }) => path !== HEAD_PATH);
  const unknown = names.filter((name) => !linear.some(({ path }) => isNamed(path, name)));
  if (names.length === 0 || unknown.length > 0) {
    const there = moduleEndings(linear).join(', ');
    const came = names.length === 0 ? 'none' : unknown.map((name) => JSON.stringify(name)).join(', ');
    const message = `Expected targetModules to be ends of paths of the model's matrices (${there}) or the one name ${ALL_LINEAR}, ${came} came. Leave it out to adapt ${defaultLoraTargets[config.family].join(' and ')}.`;
    throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'targetModules' });
  }
  return linear.filter(({ path }) => names.some((name) => isNamed(path, name)));
}
