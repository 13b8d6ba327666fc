/** Reads generation_config.json: what a model decodes with where a request says nothing. */
import { quoted } from '../../storage/storage-error.ts';
import { DEFAULT_MAX_NEW_TOKENS } from '../decoding/parse-sampling-params.ts';
import type { DecodingOptions, EarlyStopping } from '../decoding/sampling-params.ts';
import { RuntimeError } from '../errors.ts';
import type { GenerationDefaults } from './model-config.ts';

type JsonObject = Readonly<Record<string, unknown>>;

interface NumberKey {
  readonly option: keyof DecodingOptions;
  readonly low: number;
  readonly high: number;
  readonly whole?: boolean;
  /** Whether `low` itself is refused. */
  readonly aboveLow?: boolean;
}

const MOST_TOKENS = 1_000_000;
const MOST_SEQUENCES = 1024;

const NUMBER_KEYS: Readonly<Record<string, NumberKey>> = {
  max_new_tokens: { option: 'maxNewTokens', low: 1, high: MOST_TOKENS, whole: true },
  min_new_tokens: { option: 'minNewTokens', low: 0, high: MOST_TOKENS, whole: true },
  temperature: { option: 'temperature', low: 0, high: 1000, aboveLow: true },
  top_k: { option: 'topK', low: 0, high: MOST_TOKENS, whole: true },
  top_p: { option: 'topP', low: 0, high: 1, aboveLow: true },
  min_p: { option: 'minP', low: 0, high: 1 },
  typical_p: { option: 'typicalP', low: 0, high: 1, aboveLow: true },
  num_beams: { option: 'numBeams', low: 1, high: MOST_SEQUENCES, whole: true },
  length_penalty: { option: 'lengthPenalty', low: -100, high: 100 },
  num_return_sequences: { option: 'numReturnSequences', low: 1, high: MOST_SEQUENCES, whole: true },
  no_repeat_ngram_size: { option: 'noRepeatNgramSize', low: 0, high: MOST_TOKENS, whole: true },
  repetition_penalty: { option: 'repetitionPenalty', low: 0, high: 1000, aboveLow: true },
};

const TEMPLATE_ID = /^[\w.-]{1,100}$/;

function invalid(key: string, expected: string, value: unknown): never {
  const message = `generation_config.json: expected ${key} to be ${expected}, ${quoted(value)} came.`;
  throw new RuntimeError('INVALID_MODEL', message);
}

/** A key that is null counts as absent, as transformers writes it. */
function given(json: JsonObject, key: string): unknown {
  return json[key] ?? undefined;
}

function checkNumber(key: string, value: unknown, { low, high, whole = false, aboveLow = false }: NumberKey): void {
  const fits =
    typeof value === 'number' &&
    (!whole || Number.isInteger(value)) &&
    value <= high &&
    (aboveLow ? value > low : value >= low);
  if (fits) return;
  const bounds = aboveLow ? `above ${low} and at most ${high}` : `from ${low} to ${high}`;
  invalid(key, `${whole ? 'a whole number' : 'a number'} ${bounds}`, value);
}

function parseEarlyStopping(value: unknown): EarlyStopping {
  if (value === true) return 'when-beams-finish';
  if (value === false) return 'heuristic';
  if (value === 'never') return 'never';
  return invalid('early_stopping', 'true, false or "never"', value);
}

/** Returns the decoding defaults; keys that decode nothing here are left aside. Throws INVALID_MODEL naming the key. */
export function parseGenerationDefaults(json: JsonObject): GenerationDefaults {
  const defaults: { -readonly [Key in keyof DecodingOptions]: unknown } = { maxNewTokens: DEFAULT_MAX_NEW_TOKENS };
  for (const [key, range] of Object.entries(NUMBER_KEYS)) {
    const value = given(json, key);
    if (value === undefined) continue;
    checkNumber(key, value, range);
    defaults[range.option] = value;
  }
  const doSample = given(json, 'do_sample');
  if (doSample !== undefined) {
    if (typeof doSample !== 'boolean') invalid('do_sample', 'true or false', doSample);
    defaults.doSample = doSample;
  }
  const earlyStopping = given(json, 'early_stopping');
  if (earlyStopping !== undefined) defaults.earlyStopping = parseEarlyStopping(earlyStopping);
  // each value was checked against its own key above
  return defaults as GenerationDefaults;
}

/** Returns the id of the prompt template that the model was made for, when its files name one under `prompt_template`. */
export function parseTemplateId(json: JsonObject): string | undefined {
  const id = given(json, 'prompt_template');
  if (id === undefined || (typeof id === 'string' && TEMPLATE_ID.test(id))) return id;
  return invalid('prompt_template', 'the id of a prompt template', id);
}
