/**
 * Which tensors of a file make which factors, decided from names and shapes alone: what does not fit is refused before a
 * value is read or a byte is set aside for it.
 */
import type { TensorInfo } from '../../storage/safetensors-header.ts';
import { quoted } from '../../storage/storage-error.ts';
import { HEAD_PATH } from '../models/linear-module.ts';
import { incompatibleAdapter, invalidAdapter, listed } from './adapter-errors.ts';
import type { LoraConfig } from './lora-config.ts';
import type { TargetModule } from './target-modules.ts';

export interface PlannedFactors {
  readonly module: TargetModule;
  /** Names in the file. */
  readonly a: string;
  readonly b: string;
  readonly magnitude: string | undefined;
}

export interface AdapterPlan {
  readonly factors: readonly PlannedFactors[];
  /** Name of the whole output head. */
  readonly head: string | undefined;
  readonly matchedTensors: readonly string[];
  readonly unmatchedTensors: readonly string[];
  readonly warnings: readonly string[];
}

export interface PlanInput {
  readonly config: LoraConfig;
  readonly modules: readonly TargetModule[];
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** [vocabulary, hiddenSize] */
  readonly headShape: readonly number[];
  readonly maxRank: number;
}

type Part = 'a' | 'b' | 'magnitude';

const PREFIX = 'base_model.model.';
/** No module has such a long path; longer names are not looked at. */
const MAX_NAME_LENGTH = 500;
/** Behind the part may stand the adapter's name, as some tools leave it: `lora_A.default.weight`. */
const FACTOR_NAME = /^base_model\.model\.(.+)\.lora_(?:([AB])(?:\.\w+)?\.weight|magnitude_vector(?:\.\w+){0,2})$/;
const HEAD_NAME = /^base_model\.model\.lm_head\.(?:modules_to_save\.(?:\w+\.)?)?weight$/;

/** Sorts a file's names by the modules they belong to. */
class FactorNames {
  private readonly names = new Map<string, Partial<Record<Part, string>>>();
  readonly heads: string[] = [];

  constructor(
    names: Iterable<string>,
    private readonly isTarget: (path: string) => boolean,
  ) {
    for (const name of names) if (name.length <= MAX_NAME_LENGTH) this.add(name);
  }

  private add(name: string): void {
    if (HEAD_NAME.test(name)) this.heads.push(name);
    const [, path, letter] = FACTOR_NAME.exec(name) ?? [];
    if (path === undefined || !this.isTarget(path)) return;
    const part: Part = letter === 'A' ? 'a' : letter === 'B' ? 'b' : 'magnitude';
    const known = this.names.get(path) ?? {};
    checkOnce(known[part], name);
    this.names.set(path, { ...known, [part]: name });
  }

  of(path: string): Partial<Record<Part, string>> {
    return this.names.get(path) ?? {};
  }
}

function checkOnce(first: string | undefined, second: string | undefined): void {
  if (first === undefined || second === undefined) return;
  invalidAdapter(
    `adapter_model.safetensors: expected one of ${quoted(first)} and ${quoted(second)}, both came. Leave one of them out.`,
  );
}

/** `rankAxis` is where the config's rank stands: another size there is the file's fault, elsewhere it is another model's. */
function checkShape(
  name: string,
  info: TensorInfo | undefined,
  expected: readonly number[],
  rankAxis: number | undefined,
): void {
  const shape = info?.shape ?? [];
  if (shape.length === expected.length && shape.every((size, axis) => size === expected[axis])) return;
  const message = `adapter_model.safetensors: tensor ${quoted(name)}: expected [${expected}], ${quoted(shape)} came.`;
  const otherModel =
    shape.length === expected.length && shape.some((size, axis) => axis !== rankAxis && size !== expected[axis]);
  if (otherModel) incompatibleAdapter(`${message} It was made for a model of other sizes: load it for that one.`);
  invalidAdapter(`${message} Its rank must be that of adapter_config.json: put the two files of one adapter together.`);
}

function checkRank({ path, rank }: TargetModule, maxRank: number): void {
  if (rank <= maxRank) return;
  const message = `adapter_config.json: expected a rank of at most ${maxRank} (GISTQL_MAX_ADAPTER_RANK), ${rank} came for ${path}. Raise the setting, or train with a lower rank.`;
  incompatibleAdapter(message, { limit: 'GISTQL_MAX_ADAPTER_RANK' });
}

/** Returns the tensors of one module; undefined where the file has none of it. */
function planModule(
  { config, tensors, maxRank }: PlanInput,
  module: TargetModule,
  names: FactorNames,
): PlannedFactors | undefined {
  const { path, rank, inSize, outSize } = module;
  checkRank(module, maxRank);
  const { a, b, magnitude } = names.of(path);
  if (a === undefined && b === undefined && magnitude === undefined) return undefined;
  const wanted = `${PREFIX}${path}.lora_`;
  if (a === undefined) return invalidAdapter(missing(`${wanted}A.weight`, path));
  if (b === undefined) return invalidAdapter(missing(`${wanted}B.weight`, path));
  checkShape(a, tensors.get(a), [rank, inSize], 0);
  checkShape(b, tensors.get(b), [outSize, rank], 1);
  if (config.method !== 'DORA') return { module, a, b, magnitude: undefined };
  if (magnitude === undefined) return invalidAdapter(missing(`${wanted}magnitude_vector`, path));
  checkShape(magnitude, tensors.get(magnitude), [outSize], undefined);
  return { module, a, b, magnitude };
}

function missing(name: string, path: string): string {
  return `adapter_model.safetensors: expected tensor ${quoted(name)} beside the others of ${path}, it is missing. Save the adapter again with PEFT.`;
}

function planHead({ config, tensors, headShape }: PlanInput, names: FactorNames): string | undefined {
  if (!config.replacesHead) return undefined;
  const [name, second] = names.heads;
  checkOnce(name, second);
  if (name === undefined) return invalidAdapter(missing(`${PREFIX}${HEAD_PATH}.weight`, 'modules_to_save'));
  checkShape(name, tensors.get(name), headShape, undefined);
  return name;
}

function checkSomeMatched(input: PlanInput, factors: readonly PlannedFactors[]): void {
  const [first] = input.modules;
  if (factors.length > 0 || first === undefined) return;
  const came = input.tensors.size === 0 ? 'no tensor' : listed([...input.tensors.keys()].slice(0, 9).map(quoted));
  invalidAdapter(
    `adapter_model.safetensors: expected factors such as ${quoted(`${PREFIX}${first.path}.lora_A.weight`)}, ${came} came. Put the two files of one adapter together.`,
  );
}

/** Throws INVALID_ADAPTER or INCOMPATIBLE_ADAPTER naming the tensor, what was expected and what came. */
export function planAdapter(input: PlanInput): AdapterPlan {
  const { modules, tensors } = input;
  const paths = new Set(modules.map(({ path }) => path));
  const names = new FactorNames(tensors.keys(), (path) => paths.has(path));
  const factors = modules.flatMap((module) => planModule(input, module, names) ?? []);
  const head = planHead(input, names);
  checkSomeMatched(input, factors);
  const used = new Set(
    factors.flatMap(({ a, b, magnitude }) => [a, b, ...(magnitude === undefined ? [] : [magnitude])]),
  );
  if (head !== undefined) used.add(head);
  const withFactors = new Set(factors.map(({ module }) => module.path));
  const without = modules.filter(({ path }) => !withFactors.has(path)).map(({ path }) => path);
  const warnings =
    without.length === 0
      ? []
      : [
          `adapter_model.safetensors: modules that are targeted and have no factors stay as they are: ${listed(without)}.`,
        ];
  return {
    factors,
    head,
    matchedTensors: [...used].sort(),
    unmatchedTensors: [...tensors.keys()].filter((name) => !used.has(name)).sort(),
    warnings,
  };
}
