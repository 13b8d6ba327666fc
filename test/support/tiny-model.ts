/** Writes complete T5 folders with random weights, so small that they load in no time. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { uniform } from '../../src/runtime/decoding/random.ts';
import { t5TensorShapes } from '../../src/runtime/t5/t5-tensors.ts';
import type { FloatType } from '../../src/storage/float-conversion.ts';
import { encodeSafetensors, type TensorToWrite } from '../../src/storage/safetensors.ts';
import type { Cleanup } from './cleanup.ts';
import { parseT5Config } from './t5-config.ts';

export interface TinyModelOptions {
  /** Same seed, same bytes. Default 1. */
  readonly seed?: number;
  /** Gated GELU with an untied head (v1.1, FLAN), or relu with a tied one (v1.0). Default false. */
  readonly gated?: boolean;
  /** Type of the weights in the file. Default F32. */
  readonly dtype?: FloatType;
  /** Files the weights are spread over; 1 writes model.safetensors, more write an index. Default 1. */
  readonly shardCount?: number;
  /** Fields of config.json that differ from the tiny ones. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Fields of generation_config.json that differ. */
  readonly generation?: Readonly<Record<string, unknown>>;
}

export interface TinyModel {
  readonly folder: string;
  /** `parent` and `name` of the folder, for a source `dir:NAME`. */
  readonly parent: string;
  readonly name: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly tensors: ReadonlyMap<string, TensorToWrite>;
}

const EOS = 1;
/** How much larger the end token's row of the head is: it is chosen now and then. */
const EOS_PUSH = 1.5;

/** Returns a folder that is removed after the test. */
export async function temporaryFolder(t: Cleanup): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'gistql-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export function tinyConfig({ gated = false, config = {} }: TinyModelOptions = {}): Readonly<Record<string, unknown>> {
  return {
    model_type: 't5',
    architectures: ['T5ForConditionalGeneration'],
    vocab_size: 60,
    d_model: 16,
    d_kv: 6,
    d_ff: 24,
    num_heads: 2,
    num_layers: 2,
    num_decoder_layers: 1,
    relative_attention_num_buckets: 8,
    relative_attention_max_distance: 20,
    feed_forward_proj: gated ? 'gated-gelu' : 'relu',
    tie_word_embeddings: !gated,
    pad_token_id: 0,
    eos_token_id: EOS,
    decoder_start_token_id: 0,
    ...config,
  };
}

/** Normally distributed numbers (Box and Muller 1958): the n-th is a pure function of the seed. */
export function normals(seed: number): () => number {
  let draw = 0;
  return () => {
    const step = draw++;
    return Math.sqrt(-2 * Math.log(1 - uniform(seed, 0, step))) * Math.cos(2 * Math.PI * uniform(seed, 1, step));
  };
}

/** Weights large enough that answers differ by input, in the manner of the oracle's script. */
function spread(name: string, shape: readonly number[], headSize: number, normal: () => number): Float32Array {
  const [rows = 1, columns] = shape;
  const data = Float32Array.from({ length: rows * (columns ?? 1) }, normal);
  if (columns === undefined) return data.map((value) => 1 + 0.2 * value);
  if (name === 'shared.weight' || name.includes('relative_attention_bias')) return data;
  // T5 does not scale its attention scores, so its queries are small
  const queries = name.endsWith('Attention.q.weight') ? headSize ** -0.5 : 1;
  const head = name === 'lm_head.weight' ? 1.2 : 1;
  return data.map((value) => (value * 1.6 * queries * head) / Math.sqrt(columns));
}

/** Returns the weights of a config by Hugging Face's names. */
export function tinyTensors(options: TinyModelOptions = {}): ReadonlyMap<string, TensorToWrite> {
  const config = parseT5Config(tinyConfig(options));
  const shapes = new Map(t5TensorShapes(config));
  if (!config.scaleDecoderOutput) shapes.set('lm_head.weight', [config.vocabularySize, config.hiddenSize]);
  const normal = normals(options.seed ?? 1);
  const tensors = new Map<string, TensorToWrite>();
  for (const [name, shape] of shapes) {
    const data = spread(name, shape, config.headSize, normal);
    tensors.set(name, { shape, data, dtype: options.dtype ?? 'F32' });
  }
  const head = (tensors.get('lm_head.weight') ?? tensors.get('shared.weight'))?.data;
  const endRow = head?.subarray(EOS * config.hiddenSize, (EOS + 1) * config.hiddenSize);
  endRow?.set(endRow.map((value) => value * EOS_PUSH));
  return tensors;
}

/** The text "t5 t17" is the ids 5 and 17; 0 pads, 1 ends, 2 is unknown. */
export function tokenizerJson(vocabularySize: number): unknown {
  const special = ['<pad>', '</s>', '<unk>'];
  const metaspace = { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true };
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const words = Array.from({ length: vocabularySize }, (_, id) => [special[id] ?? `▁t${id}`, id < 3 ? 0 : -5]);
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special.map((content, id) => ({ id, content, ...flags })),
    normalizer: null,
    pre_tokenizer: metaspace,
    post_processor: null,
    decoder: metaspace,
    model: { type: 'Unigram', unk_id: 2, vocab: words, byte_fallback: false },
  };
}

async function writeWeights(
  folder: string,
  tensors: ReadonlyMap<string, TensorToWrite>,
  shardCount: number,
): Promise<void> {
  if (shardCount === 1) {
    await writeFile(join(folder, 'model.safetensors'), encodeSafetensors(tensors));
    return;
  }
  const weightMap: Record<string, string> = {};
  const shards = Array.from({ length: shardCount }, () => new Map<string, TensorToWrite>());
  for (const [index, [name, tensor]] of [...tensors].entries()) {
    const shard = index % shardCount;
    shards[shard]?.set(name, tensor);
    weightMap[name] = shardName(shard, shardCount);
  }
  for (const [index, shard] of shards.entries()) {
    await writeFile(join(folder, shardName(index, shardCount)), encodeSafetensors(shard));
  }
  await writeFile(
    join(folder, 'model.safetensors.index.json'),
    JSON.stringify({ metadata: {}, weight_map: weightMap }),
  );
}

function shardName(index: number, count: number): string {
  const digits = (value: number): string => String(value).padStart(5, '0');
  return `model-${digits(index + 1)}-of-${digits(count)}.safetensors`;
}

/** Writes a complete folder; it is removed after the test. */
export async function writeTinyModel(t: Cleanup, options: TinyModelOptions = {}): Promise<TinyModel> {
  const folder = join(await temporaryFolder(t), 'tiny');
  await mkdir(folder);
  const config = tinyConfig(options);
  const generation = {
    decoder_start_token_id: 0,
    eos_token_id: EOS,
    pad_token_id: 0,
    max_new_tokens: 16,
    ...options.generation,
  };
  const tensors = tinyTensors(options);
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
  await writeFile(join(folder, 'generation_config.json'), JSON.stringify(generation));
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(tokenizerJson(Number(config.vocab_size))));
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify({ model_max_length: 64 }));
  await writeWeights(folder, tensors, options.shardCount ?? 1);
  return { folder, parent: dirname(folder), name: basename(folder), config, tensors };
}
