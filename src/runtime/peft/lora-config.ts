/** Reads adapter_config.json as PEFT 0.21.2 does, every value checked; what cannot be honoured exactly is refused. */

import { quoted } from '../../storage/storage-error.ts';
import type { ModelConfig } from '../models/model-config.ts';
import { defaultLoraTargets } from '../models/model-modules.ts';
import { incompatibleAdapter, invalidAdapter } from './adapter-errors.ts';
import { checkConfigKeys } from './config-keys.ts';

type JsonObject = Readonly<Record<string, unknown>>;

export interface LoraConfig {
  readonly method: 'LORA' | 'RSLORA' | 'DORA';
  /** `r`, where `rankPattern` says nothing. */
  readonly rank: number;
  /** `lora_alpha`, where `alphaPattern` says nothing. */
  readonly alpha: number;
  /** Whether the scale is alpha/sqrt(r) in place of alpha/r: with DoRA too. */
  readonly rankStabilized: boolean;
  readonly targets: ModuleChoice;
  readonly excluded: ModuleChoice | undefined;
  /** Expressions that end a module's path → rank, in the order in which they are asked. */
  readonly rankPattern: ReadonlyMap<string, number>;
  readonly alphaPattern: ReadonlyMap<string, number>;
  /** Layers that are adapted; undefined: all. */
  readonly layerIndexes: readonly number[] | undefined;
  /** What the list of layers may be called; empty: anything. */
  readonly layerNames: readonly string[];
  /** Whether the output head is replaced by one in the file. */
  readonly replacesHead: boolean;
  readonly baseModelName: string | undefined;
  readonly warnings: readonly string[];
}

export type ModuleChoice =
  | { readonly type: 'names'; readonly names: readonly string[] }
  /** A regular expression that matches the whole path. */
  | { readonly type: 'pattern'; readonly pattern: string }
  | { readonly type: 'all-linear' };

/** PEFT's own defaults, where the file says nothing. */
const DEFAULT_RANK = 8;
const DEFAULT_ALPHA = 8;
const HEAD = 'lm_head';
const LARGEST_RANK = 1_000_000;
const LARGEST_ALPHA = 1e9;
const LARGEST_LAYER_INDEX = 1_000_000;
/** What stands in a regular expression of PEFT's; plain names mean the same there and here. */
const LAYER_NAME = /^[\w.-]{1,200}$/;

function invalid(key: string, expected: string, value: unknown): never {
  const advice = value === undefined ? 'Write it' : 'Correct it';
  return invalidAdapter(`adapter_config.json: expected ${key} to be ${expected}, ${quoted(value)} came. ${advice}.`);
}

function given(json: JsonObject, key: string): unknown {
  return Object.hasOwn(json, key) ? (json[key] ?? undefined) : undefined;
}

function flag(json: JsonObject, key: string): boolean {
  const value = given(json, key) ?? false;
  return typeof value === 'boolean' ? value : invalid(key, 'true or false', value);
}

function rankOf(key: string, value: unknown): number {
  if (Number.isInteger(value) && Number(value) >= 1 && Number(value) <= LARGEST_RANK) return Number(value);
  return invalid(key, `a whole number from 1 to ${LARGEST_RANK}`, value);
}

function alphaOf(key: string, value: unknown): number {
  if (typeof value === 'number' && Math.abs(value) <= LARGEST_ALPHA) return value;
  return invalid(key, `a number from -${LARGEST_ALPHA} to ${LARGEST_ALPHA}`, value);
}

function checkKind(json: JsonObject): void {
  const type = given(json, 'peft_type');
  if (typeof type !== 'string') invalid('peft_type', '"LORA"', type);
  if (type !== 'LORA') {
    incompatibleAdapter(
      `adapter_config.json: expected peft_type "LORA", ${quoted(type)} came. LoRA, rsLoRA and DoRA are served: train one of these.`,
    );
  }
  const bias = given(json, 'bias') ?? 'none';
  if (typeof bias !== 'string') invalid('bias', '"none"', bias);
  if (bias !== 'none') {
    incompatibleAdapter(
      `adapter_config.json: expected bias "none", ${quoted(bias)} came: biases are not adapted. Train with bias="none".`,
    );
  }
}

function namesOf(key: string, value: unknown): readonly string[] {
  if (Array.isArray(value) && value.every((name) => typeof name === 'string')) return value;
  return invalid(key, 'a list of names or a text', value);
}

function choiceOf(key: string, value: unknown): ModuleChoice {
  if (typeof value === 'string') return { type: 'pattern', pattern: value };
  return { type: 'names', names: namesOf(key, value) };
}

function parseTargets(json: JsonObject, family: ModelConfig['family']): ModuleChoice {
  const value = given(json, 'target_modules') ?? defaultLoraTargets[family];
  if (typeof value === 'string' && value.toLowerCase() === 'all-linear') return { type: 'all-linear' };
  return choiceOf('target_modules', value);
}

/** An empty choice excludes nothing, as in PEFT. */
function parseExcluded(json: JsonObject): ModuleChoice | undefined {
  const value = given(json, 'exclude_modules');
  return value === undefined || value === '' ? undefined : choiceOf('exclude_modules', value);
}

function parsePatternMap(
  json: JsonObject,
  key: string,
  parse: (key: string, value: unknown) => number,
): ReadonlyMap<string, number> {
  const value = given(json, key) ?? {};
  if (typeof value !== 'object' || Array.isArray(value)) return invalid(key, 'an object of numbers', value);
  const entries = Object.entries(value);
  return new Map(entries.map(([name, number]) => [name, parse(`${key}[${quoted(name)}]`, number)]));
}

function parseLayers(json: JsonObject): Pick<LoraConfig, 'layerIndexes' | 'layerNames'> {
  const value = given(json, 'layers_to_transform');
  const indexes: readonly unknown[] = value === undefined ? [] : Array.isArray(value) ? value : [value];
  for (const index of indexes) {
    const fits = Number.isInteger(index) && Math.abs(Number(index)) <= LARGEST_LAYER_INDEX;
    if (!fits) invalid('layers_to_transform', 'a layer number or a list of them', value);
  }
  const pattern = given(json, 'layers_pattern') ?? [];
  const layerNames = typeof pattern === 'string' ? [pattern].filter(Boolean) : namesOf('layers_pattern', pattern);
  const odd = layerNames.find((name) => !LAYER_NAME.test(name));
  if (odd !== undefined) {
    incompatibleAdapter(
      `adapter_config.json: expected layers_pattern to be plain names such as "block", ${quoted(odd)} came. Name the list of layers alone.`,
    );
  }
  if (layerNames.length > 0 && value === undefined) {
    invalid('layers_pattern', 'unset where layers_to_transform is', pattern);
  }
  return { layerIndexes: indexes.length === 0 ? undefined : (indexes as readonly number[]), layerNames };
}

function parseReplacesHead(json: JsonObject): boolean {
  const value = given(json, 'modules_to_save') ?? [];
  if (!Array.isArray(value)) return invalid('modules_to_save', 'a list of names', value);
  const other = value.find((name) => name !== HEAD);
  if (other === undefined) return value.length > 0;
  return incompatibleAdapter(
    `adapter_config.json: expected modules_to_save to hold nothing but "${HEAD}", ${quoted(value)} came: no other module can be replaced. Train without the others.`,
  );
}

/** Throws INVALID_ADAPTER or INCOMPATIBLE_ADAPTER naming the key, what was expected and what came. */
export function parseLoraConfig(json: JsonObject, family: ModelConfig['family']): LoraConfig {
  checkKind(json);
  const warnings = [...checkConfigKeys(json)];
  const dora = flag(json, 'use_dora');
  const rankStabilized = flag(json, 'use_rslora');
  // GPT-2's Conv1D keeps its weights the other way round, and PEFT knows that whatever the config says
  if (flag(json, 'fan_in_fan_out') && family !== 'gpt2') {
    warnings.push(
      'adapter_config.json: fan_in_fan_out is true, but the targets are linear layers: it was ignored, as PEFT does.',
    );
  }
  const targets = parseTargets(json, family);
  const layers = parseLayers(json);
  // PEFT refuses it for every text, "all-linear" too
  if (targets.type !== 'names' && layers.layerIndexes !== undefined) {
    invalid('layers_to_transform', 'unset where target_modules is a text', given(json, 'layers_to_transform'));
  }
  const baseModelName = given(json, 'base_model_name_or_path');
  return {
    method: dora ? 'DORA' : rankStabilized ? 'RSLORA' : 'LORA',
    rank: rankOf('r', given(json, 'r') ?? DEFAULT_RANK),
    alpha: alphaOf('lora_alpha', given(json, 'lora_alpha') ?? DEFAULT_ALPHA),
    rankStabilized,
    targets,
    excluded: parseExcluded(json),
    rankPattern: parsePatternMap(json, 'rank_pattern', rankOf),
    alphaPattern: parsePatternMap(json, 'alpha_pattern', alphaOf),
    ...layers,
    replacesHead: parseReplacesHead(json),
    baseModelName: typeof baseModelName === 'string' ? baseModelName : undefined,
    warnings,
  };
}
