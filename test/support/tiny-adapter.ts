/** Writes PEFT folders for the tiny model, with seeded random factors. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HEAD_PATH } from '../../src/runtime/models/linear-module.ts';
import { linearModules } from '../../src/runtime/models/model-modules.ts';
import { parseConfig } from '../../src/runtime/models/parse-config.ts';
import type { FloatType } from '../../src/storage/float-conversion.ts';
import { encodeSafetensors, type TensorToWrite } from '../../src/storage/safetensors.ts';
import { seededNumbers } from './seeded-numbers.ts';
import { type TinyModelOptions, tinyConfig } from './tiny-model.ts';

export interface TinyAdapterOptions {
  /** Same seed, same bytes. Default 1. */
  readonly seed?: number;
  /** Default 4. */
  readonly rank?: number;
  /** Default 8. */
  readonly alpha?: number;
  /** `target_modules`: names, a regular expression (give `modules` too), or "all-linear". Default q and v. */
  readonly targets?: readonly string[] | string;
  /** Paths that get factors. Default: those whose path ends with one of the targets. */
  readonly modules?: readonly string[];
  /** Ranks of the modules that differ from `rank`; also written as `rank_pattern`. */
  readonly ranks?: Readonly<Record<string, number>>;
  readonly dora?: boolean;
  readonly rslora?: boolean;
  /** Whether a whole output head is in the file (`modules_to_save`). Default false. */
  readonly head?: boolean;
  /** Whether all B are zero: the base model, exactly. Default false. */
  readonly zeroB?: boolean;
  /** How large the values of A and B are. Default 0.3. */
  readonly spread?: number;
  /** Default F32. */
  readonly dtype?: FloatType;
  /** Options of the tiny model it is for: `gated` and `config` matter. */
  readonly model?: TinyModelOptions;
  /** Fields of adapter_config.json that differ. */
  readonly config?: Readonly<Record<string, unknown>>;
}

export interface TinyAdapter {
  readonly folder: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly tensors: ReadonlyMap<string, TensorToWrite>;
}

const PREFIX = 'base_model.model.';

/** What PEFT would write for these options. */
export function tinyAdapterConfig(options: TinyAdapterOptions = {}): Readonly<Record<string, unknown>> {
  return {
    peft_type: 'LORA',
    task_type: 'SEQ_2_SEQ_LM',
    base_model_name_or_path: 'tiny',
    r: options.rank ?? 4,
    lora_alpha: options.alpha ?? 8,
    lora_dropout: 0.05,
    target_modules: options.targets ?? ['q', 'v'],
    rank_pattern: options.ranks ?? {},
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    modules_to_save: options.head ? [HEAD_PATH] : null,
    use_dora: options.dora ?? false,
    use_rslora: options.rslora ?? false,
    ...options.config,
  };
}

function isTarget(path: string, targets: readonly string[] | string): boolean {
  if (typeof targets === 'string') return targets === 'all-linear' && path !== HEAD_PATH;
  return targets.some((target) => path === target || path.endsWith(`.${target}`));
}

export function tinyAdapterTensors(options: TinyAdapterOptions = {}): Map<string, TensorToWrite> {
  const { rank = 4, targets = ['q', 'v'], spread = 0.3, dtype = 'F32', ranks = {} } = options;
  const model = parseConfig(tinyConfig(options.model));
  const next = seededNumbers(options.seed ?? 1);
  const random = (shape: readonly number[], low: number, high: number): TensorToWrite => {
    const length = shape.reduce((product, size) => product * size, 1);
    return { shape, dtype, data: Float32Array.from({ length }, () => low + (high - low) * next()) };
  };
  const tensors = new Map<string, TensorToWrite>();
  for (const { path, inSize, outSize } of linearModules(model)) {
    if (!(options.modules?.includes(path) ?? isTarget(path, targets))) continue;
    const moduleRank = Object.entries(ranks).find(([key]) => isTarget(path, [key]))?.[1] ?? rank;
    const size = options.zeroB ? 0 : spread;
    tensors.set(`${PREFIX}${path}.lora_A.weight`, random([moduleRank, inSize], -spread, spread));
    tensors.set(`${PREFIX}${path}.lora_B.weight`, random([outSize, moduleRank], -size, size));
    if (options.dora) tensors.set(`${PREFIX}${path}.lora_magnitude_vector`, random([outSize], 0.5, 1.5));
  }
  if (options.head) {
    tensors.set(`${PREFIX}${HEAD_PATH}.weight`, random([model.vocabularySize, model.hiddenSize], -1, 1));
  }
  return tensors;
}

/** Writes folder `name` below `parent`; whoever made `parent` removes it. */
export async function writeTinyAdapter(
  parent: string,
  name: string,
  options: TinyAdapterOptions = {},
): Promise<TinyAdapter> {
  const folder = join(parent, name);
  await mkdir(folder, { recursive: true });
  const config = tinyAdapterConfig(options);
  const tensors = tinyAdapterTensors(options);
  await writeFile(join(folder, 'adapter_config.json'), JSON.stringify(config, null, 2));
  await writeFile(join(folder, 'adapter_model.safetensors'), encodeSafetensors(tensors));
  return { folder, config, tensors };
}
