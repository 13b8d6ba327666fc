import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type LoraConfig, parseLoraConfig } from '../../../src/runtime/peft/lora-config.ts';
import { refuses } from '../../support/refuses.ts';

type Fields = Readonly<Record<string, unknown>>;

/** An adapter_config.json with these fields. */
const config = (fields: Fields): Fields => ({ peft_type: 'LORA', target_modules: ['q', 'v'], ...fields });
const parse = (fields: Fields): LoraConfig => parseLoraConfig(config(fields), 't5');

const READ: readonly (readonly [string, Fields, Partial<LoraConfig>])[] = [
  ['what the file leaves out is what PEFT defaults to', {}, { method: 'LORA', rank: 8, alpha: 8, warnings: [] }],
  ['r and lora_alpha', { r: 3, lora_alpha: 0.5 }, { rank: 3, alpha: 0.5 }],
  ['use_rslora', { use_rslora: true }, { method: 'RSLORA', rankStabilized: true }],
  ['use_dora', { use_dora: true }, { method: 'DORA', rankStabilized: false }],
  ['both', { use_dora: true, use_rslora: true }, { method: 'DORA', rankStabilized: true }],
  ['a list of targets', { target_modules: ['k'] }, { targets: { type: 'names', names: ['k'] } }],
  ['an expression', { target_modules: '.*q' }, { targets: { type: 'pattern', pattern: '.*q' } }],
  ['all-linear', { target_modules: 'All-Linear' }, { targets: { type: 'all-linear' } }],
  [
    'no targets: those that PEFT has for T5',
    { target_modules: null },
    { targets: { type: 'names', names: ['q', 'v'] } },
  ],
  ['exclude_modules', { exclude_modules: ['k'] }, { excluded: { type: 'names', names: ['k'] } }],
  ['an empty exclude_modules', { exclude_modules: '' }, { excluded: undefined }],
  ['one layer', { layers_to_transform: 2 }, { layerIndexes: [2], layerNames: [] }],
  [
    'several layers',
    { layers_to_transform: [0, 3], layers_pattern: 'block' },
    { layerIndexes: [0, 3], layerNames: ['block'] },
  ],
  ['no layers', { layers_to_transform: [] }, { layerIndexes: undefined }],
  ['the head', { modules_to_save: ['lm_head'] }, { replacesHead: true }],
  ['no head', { modules_to_save: [] }, { replacesHead: false }],
  [
    'patterns',
    { rank_pattern: { q: 2 }, alpha_pattern: { v: 1.5 } },
    { rankPattern: new Map([['q', 2]]), alphaPattern: new Map([['v', 1.5]]) },
  ],
  [
    'what only says how it was made',
    {
      megatron_core: 'megatron.core',
      loftq_config: {},
      eva_config: { rho: 2 },
      corda_config: { cov: 1 },
      init_lora_weights: 'gaussian',
      lora_dropout: 0.3,
      task_type: 'CAUSAL_LM',
      velora_config: { scale: 2 },
      runtime_config: { ephemeral_gpu_offload: true },
      lora_bias: false,
      trainable_token_indices: null,
      target_parameters: [],
      arrow_config: {},
    },
    { warnings: [] },
  ],
  ['an unknown key', { note: 'x' }, { warnings: ['adapter_config.json: "note" is not known and was ignored.'] }],
  ['an unknown key that is unset', { use_magic: false, note: null }, { warnings: [] }],
  ['a base model that is no text', { base_model_name_or_path: 7 }, { baseModelName: undefined }],
];

for (const [what, fields, expected] of READ) {
  test(`read: ${what}`, () => {
    const parsed = parse(fields);
    for (const [key, value] of Object.entries(expected)) assert.deepEqual(parsed[key as keyof LoraConfig], value, key);
  });
}

test('fan_in_fan_out is ignored with a warning, as PEFT ignores it for linear layers', () => {
  assert.match(parse({ fan_in_fan_out: true }).warnings.join(), /fan_in_fan_out is true, but/);
});

const REFUSED: readonly (readonly [Fields, RegExp])[] = [
  [{ peft_type: 'LOHA' }, /peft_type "LORA", "LOHA" came/],
  [{ peft_type: 'IA3' }, /"IA3" came/],
  [{ peft_type: 'PROMPT_TUNING' }, /"PROMPT_TUNING" came/],
  [{ peft_type: 'ADALORA' }, /"ADALORA" came/],
  [{ bias: 'all' }, /bias "none", "all" came/],
  [{ bias: 'lora_only' }, /"lora_only" came/],
  [{ lora_bias: true }, /lora_bias to be unset, true came/],
  [{ layer_replication: [[0, 4]] }, /layer_replication to be unset, \[a list\] came/],
  [{ trainable_token_indices: [1] }, /trainable_token_indices to be unset/],
  [{ target_parameters: ['w'] }, /target_parameters to be unset/],
  [{ use_qalora: true }, /use_qalora to be unset/],
  [{ alora_invocation_tokens: [5] }, /alora_invocation_tokens to be unset/],
  [{ monteclora_config: { num_samples: 8 } }, /monteclora_config to be unset, an object came/],
  [{ use_bdlora: { nblocks: 2 } }, /use_bdlora to be unset/],
  [{ arrow_config: { top_k: 3 } }, /arrow_config to be unset/],
  [{ kasa_config: { x: 1 } }, /kasa_config to be unset/],
  [{ ensure_weight_tying: true }, /ensure_weight_tying to be unset/],
  [{ megatron_config: { x: 1 } }, /megatron_config to be unset/],
  [{ init_lora_weights: 'pissa' }, /init_lora_weights that leave the base model as it is, "pissa" came/],
  [{ init_lora_weights: 'pissa_niter_16' }, /"pissa_niter_16" came/],
  [{ init_lora_weights: 'loftq' }, /"loftq" came/],
  [{ init_lora_weights: 'olora' }, /"olora" came/],
  [{ use_tomorrow: true }, /"use_tomorrow" to be unset, true came/],
  [{ new_config: { x: 1 } }, /"new_config" to be unset/],
  [{ modules_to_save: ['classifier'] }, /nothing but "lm_head", \["classifier"\] came/],
  [{ modules_to_save: ['lm_head', 'shared'] }, /"shared"\] came/],
  [{ layers_to_transform: 1, layers_pattern: '(a+)+' }, /plain names such as "block", "\(a\+\)\+" came/],
];

for (const [fields, message] of REFUSED) {
  test(`refused as what cannot be applied: ${JSON.stringify(fields)}`, () => {
    assert.throws(() => parse(fields), refuses('INCOMPATIBLE_ADAPTER', message));
  });
}

const BROKEN: readonly (readonly [Fields, RegExp])[] = [
  [{ peft_type: undefined }, /peft_type to be "LORA", nothing came/],
  [{ peft_type: 7 }, /peft_type to be "LORA", 7 came/],
  [{ r: 0 }, /r to be a whole number from 1 to 1000000, 0 came/],
  [{ r: -1 }, /-1 came/],
  [{ r: 1.5 }, /1.5 came/],
  [{ r: '8' }, /"8" came/],
  [{ r: 1e300 }, /1e\+300 came/],
  [{ lora_alpha: 'x' }, /lora_alpha to be a number/],
  [{ lora_alpha: Number.POSITIVE_INFINITY }, /Infinity came/],
  [{ lora_alpha: [] }, /lora_alpha to be a number/],
  [{ use_dora: 'true' }, /use_dora to be true or false, "true" came/],
  [{ use_rslora: 1 }, /use_rslora to be true or false, 1 came/],
  [{ fan_in_fan_out: {} }, /fan_in_fan_out to be true or false, an object came/],
  [{ bias: true }, /bias to be "none", true came/],
  [{ target_modules: 7 }, /target_modules to be a list of names or a text, 7 came/],
  [{ target_modules: ['q', 7] }, /\["q", 7\] came/],
  [{ exclude_modules: { q: 1 } }, /exclude_modules to be/],
  [{ rank_pattern: [] }, /rank_pattern to be an object of numbers/],
  [{ rank_pattern: { q: 0 } }, /rank_pattern\["q"\] to be a whole number from 1/],
  [{ alpha_pattern: { q: null } }, /alpha_pattern\["q"\] to be a number/],
  [{ layers_to_transform: ['x'] }, /layers_to_transform to be a layer number/],
  [{ layers_to_transform: 0.5 }, /0.5 came/],
  [{ layers_pattern: 'block' }, /layers_pattern to be unset where layers_to_transform is/],
  [{ target_modules: '.*q', layers_to_transform: 0 }, /layers_to_transform to be unset where target_modules is a text/],
  [{ modules_to_save: 'lm_head' }, /modules_to_save to be a list of names/],
];

for (const [fields, message] of BROKEN) {
  test(`refused as broken: ${JSON.stringify(fields)}`, () => {
    assert.throws(() => parse(fields), refuses('INVALID_ADAPTER', message));
  });
}
