/**
 * What each key of PEFT's LoraConfig (0.21.2, src/peft/tuners/lora/config.py) means for serving, beyond those that
 * lora-config.ts reads: either it does not change what the adapter computes, or the adapter is refused with it.
 */
import { quoted } from '../../storage/storage-error.ts';
import { incompatibleAdapter } from './adapter-errors.ts';

type JsonObject = Readonly<Record<string, unknown>>;

/** Read by lora-config.ts. */
const READ = [
  'peft_type',
  'base_model_name_or_path',
  'r',
  'lora_alpha',
  'target_modules',
  'exclude_modules',
  'rank_pattern',
  'alpha_pattern',
  'layers_to_transform',
  'layers_pattern',
  'use_rslora',
  'use_dora',
  'modules_to_save',
  'fan_in_fan_out',
  'bias',
  'init_lora_weights',
];

/** About training, provenance or where it ran: the same adapter with any value. */
const HARMLESS = [
  'task_type',
  'auto_mapping',
  'peft_version',
  'revision',
  'inference_mode',
  'lora_dropout',
  'merge_weights',
  // the name of a module, used only where megatron_config is set
  'megatron_core',
  // how factors begin; whether that changed the base too is said by init_lora_weights
  'loftq_config',
  'eva_config',
  'corda_config',
  'lora_ga_config',
  // replaces the backward pass only
  'velora_config',
  // used only where use_qalora is set
  'qalora_group_size',
  'runtime_config',
];

/** Each adds something to the forward pass, or to what is adapted, that is not served. */
const REFUSED: Readonly<Record<string, string>> = {
  lora_bias: 'a bias of B',
  layer_replication: 'layers that are repeated',
  trainable_token_indices: 'embeddings of single tokens',
  target_parameters: 'parameters in place of modules',
  use_qalora: 'pooled inputs (QALoRA)',
  alora_invocation_tokens: 'factors from a token on (aLoRA)',
  monteclora_config: 'sampled factors (MonteCLoRA)',
  use_bdlora: 'block-diagonal factors (BD-LoRA)',
  arrow_config: 'routing between adapters (Arrow)',
  kasa_config: 'truncated base weights (KaSA)',
  ensure_weight_tying: 'tied adapters',
  megatron_config: "Megatron's parallel layers",
  enable_lora: 'merged layers',
};

/** Initializations after which the base weights are no longer those of the model (layer.py, `*_init`). */
const CHANGES_BASE = /^(pissa|corda|olora|loftq|lora_ga)/i;

/** Keys that no version known here has: a switch or a variant's settings may change the forward pass, a fact may not. */
const LOOKS_LIKE_VARIANT = /^(use|enable|target|layers?|trainable)_|_(config|tokens|bias)$/;
const KNOWN = new Set([...READ, ...HARMLESS, ...Object.keys(REFUSED)]);

/** Whether a value says anything: null, false, 0 and what is empty do not. */
function isSet(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return Boolean(value);
  return Object.keys(value).length > 0;
}

function refuse(key: string, value: unknown, what: string): never {
  const message = `adapter_config.json: expected ${key} to be unset, ${quoted(value)} came: ${what} cannot be applied exactly. Train the adapter without it.`;
  return incompatibleAdapter(message);
}

function checkInitialization(value: unknown): void {
  if (typeof value !== 'string' || !CHANGES_BASE.test(value)) return;
  const message = `adapter_config.json: expected init_lora_weights that leave the base model as it is, ${quoted(value)} came: the adapter was trained on changed base weights. Convert it with PEFT's path_initial_model_for_weight_conversion.`;
  incompatibleAdapter(message);
}

/** Throws INCOMPATIBLE_ADAPTER naming a key that cannot be honoured; returns warnings about keys that are not known. */
export function checkConfigKeys(json: JsonObject): readonly string[] {
  for (const [key, what] of Object.entries(REFUSED)) {
    if (Object.hasOwn(json, key) && isSet(json[key])) refuse(key, json[key], what);
  }
  checkInitialization(json.init_lora_weights);
  const unknown = Object.keys(json).filter((key) => !KNOWN.has(key) && isSet(json[key]));
  const variant = unknown.find((key) => LOOKS_LIKE_VARIANT.test(key));
  if (variant !== undefined) refuse(quoted(variant), json[variant], 'a key that may change what the adapter computes');
  return unknown.map((key) => `adapter_config.json: ${quoted(key)} is not known and was ignored.`);
}
