/** Writes complete GPT-2 and Llama folders with random weights, so small that they load in no time. */
import { mkdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { decoderOnlyTensorShapes } from '../../src/runtime/decoder-only/decoder-only-tensors.ts';
import { parseConfig } from '../../src/runtime/models/parse-config.ts';
import { encodeSafetensors, type TensorToWrite } from '../../src/storage/safetensors.ts';
import type { Cleanup } from './cleanup.ts';
import { normals, type TinyModel, temporaryFolder, tokenizerJson } from './tiny-model.ts';

type Json = Readonly<Record<string, unknown>>;

const COMMON = { vocab_size: 122, bos_token_id: 1, eos_token_id: 1 };

export const tinyGpt2: Json = {
  ...COMMON,
  model_type: 'gpt2',
  architectures: ['GPT2LMHeadModel'],
  n_embd: 48,
  n_head: 3,
  n_layer: 2,
  n_positions: 1024,
};

/** Six heads of queries to two of keys. */
export const tinyLlama: Json = {
  ...COMMON,
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  hidden_size: 48,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  head_dim: 16,
  num_hidden_layers: 2,
  intermediate_size: 64,
  max_position_embeddings: 1024,
  rope_theta: 10_000,
  tie_word_embeddings: false,
};

/** Weights large enough that answers differ by input. */
export function tinyDecoderOnlyTensors(json: Json, seed = 1): Map<string, TensorToWrite> {
  const config = parseConfig(json);
  if (config.family === 't5') throw new Error('expected the config of a decoder-only model');
  const normal = normals(seed);
  const tensors = new Map<string, TensorToWrite>();
  for (const [name, shape] of decoderOnlyTensorShapes(config)) {
    const [rows = 1, columns] = shape;
    const isBias = name.endsWith('.bias');
    const inSize = config.family === 'gpt2' ? rows : (columns ?? 1);
    const isTable = /(wte|wpe|embed_tokens)\.weight$/.test(name);
    const scale = columns === undefined || isTable ? 1 : 1.6 / Math.sqrt(inSize);
    const data = Float32Array.from({ length: rows * (columns ?? 1) }, () => {
      const value = normal();
      return columns === undefined ? (isBias ? 0.1 : 1) * (isBias ? value : 1 + 0.2 * value) : scale * value;
    });
    tensors.set(name, { shape, data, dtype: 'F32' });
  }
  return tensors;
}

/** Writes a complete folder; it is removed after the test. `files`: others to write, as texts. */
export async function writeTinyDecoderOnly(
  t: Cleanup,
  config: Json,
  files: Readonly<Record<string, string>> = {},
): Promise<TinyModel> {
  const folder = join(await temporaryFolder(t), 'tiny');
  await mkdir(folder);
  const tensors = tinyDecoderOnlyTensors(config);
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(tokenizerJson(Number(config.vocab_size))));
  await writeFile(join(folder, 'model.safetensors'), encodeSafetensors(tensors));
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  return { folder, parent: dirname(folder), name: basename(folder), config, tensors };
}
