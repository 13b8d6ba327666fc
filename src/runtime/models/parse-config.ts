/** Reads a config.json of any family that is served. */
import { quoted } from '../../storage/storage-error.ts';
import { parseGpt2Config } from '../decoder-only/parse-gpt2-config.ts';
import { parseLlamaConfig } from '../decoder-only/parse-llama-config.ts';
import { parseT5Config } from '../t5/parse-t5-config.ts';
import { invalidConfig, type JsonObject } from './config-fields.ts';
import type { ModelConfig } from './model-config.ts';

export interface OtherConfigs {
  /** tokenizer_config.json. */
  readonly tokenizer?: JsonObject | undefined;
  /** generation_config.json: its special tokens outrank those of config.json, as transformers has it. */
  readonly generation?: JsonObject | undefined;
}

/** By `model_type`. */
const PARSERS: Readonly<Record<string, (json: JsonObject, tokenizerConfig: JsonObject) => ModelConfig>> = {
  t5: parseT5Config,
  gpt2: parseGpt2Config,
  llama: parseLlamaConfig,
  mistral: parseLlamaConfig,
  qwen2: parseLlamaConfig,
};

const SPECIAL_TOKENS = ['pad_token_id', 'bos_token_id', 'eos_token_id', 'decoder_start_token_id'];

/** Throws RuntimeError INVALID_MODEL naming the key, what was expected and what came. */
export function parseConfig(json: JsonObject, { tokenizer = {}, generation = {} }: OtherConfigs = {}): ModelConfig {
  const type = json.model_type;
  const parse = typeof type === 'string' && Object.hasOwn(PARSERS, type) ? PARSERS[type] : undefined;
  if (parse === undefined) {
    return invalidConfig(
      `expected model_type to be one of ${Object.keys(PARSERS).join(', ')}, ${quoted(type)} came. T5 and FLAN-T5, GPT-2, and Llama, SmolLM2, Mistral and Qwen2 are served.`,
    );
  }
  const tokens = SPECIAL_TOKENS.map((key) => [key, generation[key] ?? json[key]]);
  return parse({ ...json, ...Object.fromEntries(tokens) }, tokenizer);
}
