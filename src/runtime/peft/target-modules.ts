/** Which modules of a model an adapter's config means, and with what rank and scale: PEFT's rules, PEFT's order. */
import { quoted } from '../../storage/storage-error.ts';
import { HEAD_PATH, type LinearModule, moduleEndings } from '../models/linear-module.ts';
import type { ModelConfig } from '../models/model-config.ts';
import { linearModules, otherModules } from '../models/model-modules.ts';
import { incompatibleAdapter, listed } from './adapter-errors.ts';
import type { LoraConfig, ModuleChoice } from './lora-config.ts';
import { PatternBudget, PatternMatcher } from './pattern-matcher.ts';
import { ANY_CHARACTER, literal, type PatternNode, parsePattern } from './pattern-syntax.ts';

export interface TargetModule extends LinearModule {
  readonly rank: number;
  /** What B·A is multiplied with. */
  readonly scale: number;
}

export interface TargetSelection {
  /** In the order of the model. */
  readonly modules: readonly TargetModule[];
  readonly warnings: readonly string[];
}

type PathTest = (path: string) => boolean;

/** Calls `visit` with a path and every end of it that begins behind a dot. */
function someEnding(path: string, visit: PathTest): boolean {
  if (visit(path)) return true;
  for (let dot = path.indexOf('.'); dot >= 0; dot = path.indexOf('.', dot + 1)) {
    if (visit(path.slice(dot + 1))) return true;
  }
  return false;
}

function testOf(key: string, choice: ModuleChoice, linear: ReadonlySet<string>, budget: PatternBudget): PathTest {
  switch (choice.type) {
    case 'all-linear':
      return (path) => linear.has(path) && path !== HEAD_PATH;
    case 'names': {
      const names = new Set(choice.names);
      return (path) => someEnding(path, (ending) => names.has(ending));
    }
    case 'pattern': {
      const matcher = new PatternMatcher(parsePattern(key, choice.pattern), budget);
      return (path) => matcher.matches(path);
    }
    default:
      return choice satisfies never;
  }
}

/** The first number behind a name is the layer's: `encoder.block.1.layer.0.…` is of layer 1. */
function layerIndexOf(path: string, layerNames: readonly string[]): number | undefined {
  if (layerNames.length === 0) {
    const [, index] = /^.*?\.[^.]*\.(\d+)\./.exec(path) ?? [];
    return index === undefined ? undefined : Number(index);
  }
  for (const name of layerNames) {
    // of letters, digits, dots and dashes only (lora-config.ts): nothing in it repeats
    const [, index] = new RegExp(`^(?:.*?\\.)?${name}\\.(\\d+)\\.`).exec(path) ?? [];
    if (index !== undefined) return Number(index);
  }
  return undefined;
}

/** A module that is named by its whole path is meant whatever its layer. */
function layerTest({ layerIndexes, layerNames, targets }: LoraConfig): PathTest {
  if (layerIndexes === undefined) return () => true;
  const indexes = new Set(layerIndexes);
  const whole = new Set(targets.type === 'names' ? targets.names : []);
  return (path) => whole.has(path) || indexes.has(layerIndexOf(path, layerNames) ?? Number.NaN);
}

/** Letters, digits, dashes and dots: what PEFT writes itself, one a module. A dot is any character here. */
const PLAIN_KEY = /^\^?[\w.-]+$/;

function plainKeyMatches(key: string, path: string): boolean {
  const anchored = key.startsWith('^');
  const name = anchored ? key.slice(1) : key;
  const start = path.length - name.length;
  if (start < 0 || (start > 0 && (anchored || path[start - 1] !== '.'))) return false;
  for (let index = name.length - 1; index >= 0; index--) {
    if (name[index] !== '.' && name[index] !== path[start + index]) return false;
  }
  return true;
}

/** `(.*\.)?(KEY)$` from the start of the path. */
function endingPattern(node: PatternNode): PatternNode {
  const anything: PatternNode = {
    type: 'repeat',
    node: { type: 'set', set: ANY_CHARACTER },
    low: 0,
    high: Number.POSITIVE_INFINITY,
  };
  const prefix: PatternNode = { type: 'sequence', nodes: [anything, literal('.')] };
  return { type: 'sequence', nodes: [{ type: 'repeat', node: prefix, low: 0, high: 1 }, node] };
}

/** Which value of a pattern map a path has: that of the first key that matches it. */
class PatternMap {
  private readonly rules: readonly { readonly key: string; readonly test: PathTest; readonly value: number }[];

  constructor(
    private readonly name: string,
    map: ReadonlyMap<string, number>,
    budget: PatternBudget,
  ) {
    this.rules = [...map].map(([key, value]) => {
      if (PLAIN_KEY.test(key)) return { key, value, test: (path) => plainKeyMatches(key, path) };
      const matcher = new PatternMatcher(endingPattern(parsePattern(name, key)), budget);
      return { key, value, test: (path) => matcher.matches(path) };
    });
  }

  valueOf(path: string): number | undefined {
    return this.rules.find(({ test }) => test(path))?.value;
  }

  /** What is said of keys that match none of these modules. */
  warnings(modules: readonly LinearModule[]): readonly string[] {
    const idle = this.rules.filter(({ test }) => !modules.some(({ path }) => test(path)));
    if (idle.length === 0) return [];
    const keys = listed(idle.map(({ key }) => quoted(key)));
    return [`adapter_config.json: keys of ${this.name} that match no target: ${keys}.`];
  }
}

function shown(targets: ModuleChoice): string {
  if (targets.type === 'names') return quoted(targets.names);
  return targets.type === 'pattern' ? `the regular expression ${quoted(targets.pattern)}` : '"all-linear"';
}

function checkOthers(targets: ModuleChoice, others: readonly string[], linear: readonly LinearModule[]): void {
  if (others.length === 0) return;
  const message = `adapter_config.json: expected target_modules to be linear modules (${listed(moduleEndings(linear))}), ${shown(targets)} also means ${listed(others)}. Train on linear modules alone.`;
  incompatibleAdapter(message);
}

function unmatchedWarnings(targets: ModuleChoice, paths: Iterable<string>): readonly string[] {
  if (targets.type !== 'names') return [];
  const missing = new Set(targets.names);
  for (const path of paths) {
    someEnding(path, (ending) => {
      missing.delete(ending);
      return false;
    });
  }
  if (missing.size === 0) return [];
  const names = listed([...missing].map(quoted));
  return [`adapter_config.json: target_modules that the model does not have: ${names}.`];
}

/** Throws INCOMPATIBLE_ADAPTER when nothing, or something that is no linear module, is meant. */
export function selectTargets(config: LoraConfig, model: ModelConfig): TargetSelection {
  const linear = linearModules(model);
  const others = otherModules(model);
  const budget = new PatternBudget();
  const linearPaths = new Set(linear.map(({ path }) => path));
  const isTarget = testOf('target_modules', config.targets, linearPaths, budget);
  const isExcluded =
    config.excluded === undefined ? () => false : testOf('exclude_modules', config.excluded, linearPaths, budget);
  const isInLayer = layerTest(config);
  const isMeant = (path: string): boolean =>
    // a head that is replaced takes no factors
    !(config.replacesHead && path === HEAD_PATH) && isTarget(path) && !isExcluded(path) && isInLayer(path);
  checkOthers(config.targets, [...others].filter(isMeant), linear);
  const meant = linear.filter(({ path }) => isMeant(path));
  if (meant.length === 0) {
    incompatibleAdapter(
      `adapter_config.json: expected target_modules of this model (${listed(moduleEndings(linear))}), ${shown(config.targets)} matches none. Choose the model that it was made for.`,
    );
  }
  const ranks = new PatternMap('rank_pattern', config.rankPattern, budget);
  const alphas = new PatternMap('alpha_pattern', config.alphaPattern, budget);
  const modules = meant.map((module): TargetModule => {
    const rank = ranks.valueOf(module.path) ?? config.rank;
    const alpha = alphas.valueOf(module.path) ?? config.alpha;
    return { ...module, rank, scale: alpha / (config.rankStabilized ? Math.sqrt(rank) : rank) };
  });
  const warnings = [
    ...unmatchedWarnings(config.targets, [...linearPaths, ...others]),
    ...ranks.warnings(meant),
    ...alphas.warnings(meant),
  ];
  return { modules, warnings };
}
