/** The fields of a config.json, each checked before anything is made to its measure. */
import { quoted } from '../../storage/storage-error.ts';
import { RuntimeError } from '../errors.ts';
import type { Activation } from '../graph/layers.ts';

export type JsonObject = Readonly<Record<string, unknown>>;

const MAX_EOS_TOKENS = 64;
const CLASS_NAME = /^\w{1,100}$/;
/** tokenizer_config.json writes a number like 10^30 where there is no limit. */
export const LARGEST_SANE_LENGTH = 10_000_000;
export const LARGEST_VOCABULARY = 1_000_000;

/** Throws RuntimeError INVALID_MODEL. */
export function invalidConfig(message: string): never {
  throw new RuntimeError('INVALID_MODEL', `config.json: ${message}`);
}

interface Bounds {
  readonly high: number;
  /** Default 1. */
  readonly low?: number;
  /** Where the key is absent or null; default: it must be there. */
  readonly fallback?: number | undefined;
}

/** A whole number of the object. */
export function count(json: JsonObject, key: string, { high, low = 1, fallback }: Bounds): number {
  const value = json[key] ?? fallback;
  if (Number.isInteger(value) && (value as number) >= low && (value as number) <= high) return value as number;
  return invalidConfig(`expected ${key} to be a whole number from ${low} to ${high}, ${quoted(value)} came.`);
}

/** A number above 0. */
export function positive(json: JsonObject, key: string, fallback?: number): number {
  const value = json[key] ?? fallback;
  if (typeof value === 'number' && value > 0 && Number.isFinite(value)) return value;
  return invalidConfig(`expected ${key} to be a number above 0, ${quoted(value)} came.`);
}

export function epsilon(json: JsonObject, key: string, fallback: number): number {
  const value = json[key] ?? fallback;
  if (typeof value === 'number' && value > 0 && value < 1) return value;
  return invalidConfig(`expected ${key} between 0 and 1, ${quoted(value)} came.`);
}

export function flag(json: JsonObject, key: string): boolean | undefined {
  const value = json[key] ?? undefined;
  if (value === undefined || typeof value === 'boolean') return value;
  return invalidConfig(`expected ${key} to be true or false, ${quoted(value)} came.`);
}

/** transformers' names of the activations; several of them are one function. */
export const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  relu: 'relu',
  gelu_new: 'gelu-tanh',
  gelu_pytorch_tanh: 'gelu-tanh',
  gelu: 'gelu',
  silu: 'silu',
  swish: 'silu',
};

export function activation(json: JsonObject, key: string, fallback: string): Activation {
  const value = json[key] ?? fallback;
  const known = typeof value === 'string' && Object.hasOwn(ACTIVATIONS, value) ? ACTIVATIONS[value] : undefined;
  if (known !== undefined) return known;
  return invalidConfig(`expected ${key} to be one of ${Object.keys(ACTIVATIONS).join(', ')}; ${quoted(value)} came.`);
}

/** Refuses what changes a model's numbers in a way that is not built. */
export function expectValue(json: JsonObject, key: string, expected: unknown): void {
  const value = json[key] ?? expected;
  if (value !== expected) invalidConfig(`expected ${key} to be ${quoted(expected)}, ${quoted(value)} came.`);
}

/** `eos_token_id`: a number or a list of them. */
export function eosTokenIds(json: JsonObject, vocabularySize: number, fallback?: number): readonly number[] {
  const value = json.eos_token_id ?? fallback;
  // a model without one ends by length
  if (value === undefined) return [];
  const ids: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (ids.length === 0 || ids.length > MAX_EOS_TOKENS) {
    return invalidConfig(`expected 1 to ${MAX_EOS_TOKENS} numbers as eos_token_id, ${ids.length} came.`);
  }
  return ids.map((id) => count({ eos_token_id: id }, 'eos_token_id', { low: 0, high: vocabularySize - 1 }));
}

/** `architectures[0]`, or `fallback` where there is no such name. */
export function architecture(json: JsonObject, fallback: string): string {
  const name = Array.isArray(json.architectures) ? json.architectures[0] : undefined;
  return typeof name === 'string' && CLASS_NAME.test(name) ? name : fallback;
}
