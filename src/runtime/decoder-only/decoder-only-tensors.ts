/** Which tensors a GPT-2 or a Llama has. Names are Hugging Face's, of the model with its head. */
import { HEAD_PATH } from '../models/linear-module.ts';
import type { DecoderOnlyConfig, Gpt2Config, LlamaConfig } from '../models/model-config.ts';
import { checkTensors, type TensorCatalog, type TensorShapes, type TensorSource } from '../models/tensor-catalog.ts';

/** What files of the model without its head leave out of the names. */
const PREFIXES = { gpt2: 'transformer.', llama: 'model.' } as const;

/** Masks and frequencies that older files hold and that are computed here. */
const COMPUTED = /\.(attn\.(bias|masked_bias)|rotary_emb\.inv_freq)$/;
const COMPUTED_OR_TIED = new RegExp(`${COMPUTED.source}|^${HEAD_PATH}\\.weight$`);

/** The name of the embedding table. */
export function embeddingsName({ family }: DecoderOnlyConfig): string {
  return family === 'gpt2' ? 'transformer.wte.weight' : 'model.embed_tokens.weight';
}

/** Name → shape of every tensor that must be there. GPT-2's matrices are [in, out]. */
export function decoderOnlyTensorShapes(config: DecoderOnlyConfig): TensorShapes {
  const shapes = config.family === 'gpt2' ? gpt2Shapes(config) : llamaShapes(config);
  if (!config.tiedHead) shapes.set(`${HEAD_PATH}.weight`, [config.vocabularySize, config.hiddenSize]);
  return shapes;
}

function gpt2Shapes(config: Gpt2Config): Map<string, readonly number[]> {
  const { hiddenSize: d, feedForwardSize: ff } = config;
  const shapes = new Map<string, readonly number[]>([
    ['transformer.wte.weight', [config.vocabularySize, d]],
    ['transformer.wpe.weight', [config.contextLength, d]],
  ]);
  const norm = (path: string): void => void shapes.set(`${path}.weight`, [d]).set(`${path}.bias`, [d]);
  const matrix = (path: string, inSize: number, outSize: number): void =>
    void shapes.set(`${path}.weight`, [inSize, outSize]).set(`${path}.bias`, [outSize]);
  for (let layer = 0; layer < config.layerCount; layer++) {
    const block = `transformer.h.${layer}`;
    norm(`${block}.ln_1`);
    matrix(`${block}.attn.c_attn`, d, 3 * d);
    matrix(`${block}.attn.c_proj`, d, d);
    norm(`${block}.ln_2`);
    matrix(`${block}.mlp.c_fc`, d, ff);
    matrix(`${block}.mlp.c_proj`, ff, d);
  }
  norm('transformer.ln_f');
  return shapes;
}

function llamaShapes(config: LlamaConfig): Map<string, readonly number[]> {
  const { hiddenSize: d, feedForwardSize: ff, headSize, headCount, keyValueHeadCount, biases } = config;
  const shapes = new Map<string, readonly number[]>([['model.embed_tokens.weight', [config.vocabularySize, d]]]);
  const matrix = (path: string, outSize: number, inSize: number, hasBias: boolean): void => {
    shapes.set(`${path}.weight`, [outSize, inSize]);
    if (hasBias) shapes.set(`${path}.bias`, [outSize]);
  };
  for (let layer = 0; layer < config.layerCount; layer++) {
    const block = `model.layers.${layer}`;
    shapes.set(`${block}.input_layernorm.weight`, [d]);
    matrix(`${block}.self_attn.q_proj`, headCount * headSize, d, biases.inputs);
    matrix(`${block}.self_attn.k_proj`, keyValueHeadCount * headSize, d, biases.inputs);
    matrix(`${block}.self_attn.v_proj`, keyValueHeadCount * headSize, d, biases.inputs);
    matrix(`${block}.self_attn.o_proj`, d, headCount * headSize, biases.output);
    shapes.set(`${block}.post_attention_layernorm.weight`, [d]);
    matrix(`${block}.mlp.gate_proj`, ff, d, biases.feedForward);
    matrix(`${block}.mlp.up_proj`, ff, d, biases.feedForward);
    matrix(`${block}.mlp.down_proj`, d, ff, biases.feedForward);
  }
  shapes.set('model.norm.weight', [d]);
  return shapes;
}

/** Files under the names of the model with its head, whichever they use. */
export class NamedWeights implements TensorCatalog, TensorSource {
  private readonly prefix: string;

  constructor(
    config: DecoderOnlyConfig,
    private readonly files: TensorCatalog & TensorSource & { close(): Promise<void> },
  ) {
    const prefix = PREFIXES[config.family];
    const bare = embeddingsName(config).slice(prefix.length);
    this.prefix = files.has(bare) && !files.has(prefix + bare) ? prefix : '';
  }

  names(): readonly string[] {
    return this.files.names().map((name) => (name.startsWith(HEAD_PATH) ? name : this.prefix + name));
  }

  has(name: string): boolean {
    return this.files.has(this.fileName(name));
  }

  info(name: string): ReturnType<TensorCatalog['info']> {
    return this.files.info(this.fileName(name));
  }

  read(name: string): Promise<Float32Array> {
    return this.files.read(this.fileName(name));
  }

  close(): Promise<void> {
    return this.files.close();
  }

  private fileName(name: string): string {
    return name.startsWith(this.prefix) ? name.slice(this.prefix.length) : name;
  }
}

/** As `checkTensors`. The copy of the table that files of a tied head may hold is not read. */
export function checkDecoderOnlyTensors(config: DecoderOnlyConfig, catalog: TensorCatalog): readonly string[] {
  return checkTensors(decoderOnlyTensorShapes(config), catalog, config.tiedHead ? COMPUTED_OR_TIED : COMPUTED);
}
