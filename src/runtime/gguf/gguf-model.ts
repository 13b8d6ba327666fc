/** A model in one GGUF file, as the files of a Hugging Face folder: config.json, tokenizer.json, weights by their names. */
import { GgufFile } from '../../storage/gguf/gguf-file.ts';
import type { GgufTensorInfo } from '../../storage/gguf/gguf-header.ts';
import { quoted, StorageError } from '../../storage/storage-error.ts';
import { ggufConfigJson, readArchitecture, readHeadCounts, readHeadSize } from './gguf-config.ts';
import { GgufFields } from './gguf-fields.ts';
import { type PlacedTensor, placeTensors, ROTARY_FACTORS, unpairRows } from './gguf-tensors.ts';
import { ggufTokenizerJson } from './gguf-tokenizer.ts';

const EMBEDDINGS = 'model.embed_tokens.weight';
const HEAD = 'lm_head.weight';

export class GgufModel {
  private constructor(
    private readonly file: GgufFile,
    private readonly fields: GgufFields,
    private readonly placed: ReadonlyMap<string, PlacedTensor>,
    /** In the spelling of Hugging Face's config.json; see gguf-config.ts for `rope_scaling`. */
    readonly configJson: Readonly<Record<string, unknown>>,
    /** A Jinja template; undefined: the file has none. */
    readonly chatTemplate: string | undefined,
  ) {}

  /** Opens a file and checks what it says. Throws StorageError; the weights are read one by one later. */
  static async open(path: string): Promise<GgufModel> {
    const file = await GgufFile.open(path);
    try {
      const fields = new GgufFields(file);
      const architecture = readArchitecture(fields);
      const placed = placeTensors(file, fields, architecture, readHeadCounts(fields, architecture));
      const embeddings = placed.get(EMBEDDINGS);
      const [vocabularySize] = file.tensors.get(embeddings?.name ?? '')?.shape ?? [];
      if (vocabularySize === undefined) return fields.fail('expected a tensor "token_embd.weight", it is missing');
      const config = ggufConfigJson(fields, architecture, {
        vocabularySize,
        tiedHead: !placed.has(HEAD),
        attentionBias: placed.has('model.layers.0.self_attn.q_proj.bias'),
        feedForwardBias: placed.has('model.layers.0.mlp.gate_proj.bias'),
        rotaryFactors: await readRotaryFactors(file, fields, readHeadSize(fields, architecture) / 2),
      });
      return new GgufModel(file, fields, placed, config, fields.optionalText('tokenizer.chat_template'));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /**
   * Returns the text of a tokenizer.json made from the metadata. Throws StorageError where that cannot be done exactly:
   * then the model needs a tokenizer.json beside the file.
   */
  tokenizerJson(): string {
    return ggufTokenizerJson(this.fields, this.info(EMBEDDINGS)?.shape[0] ?? 0);
  }

  /** Hugging Face's names of the tensors. */
  names(): readonly string[] {
    return [...this.placed.keys()];
  }

  has(name: string): boolean {
    return this.placed.has(name);
  }

  /** Type in the file and shape of a tensor. */
  info(name: string): GgufTensorInfo | undefined {
    return this.file.tensors.get(this.placed.get(name)?.name ?? '');
  }

  /** Reads one tensor as float32, dequantized, its rows in Hugging Face's order. Refuses values that are not finite. */
  async read(name: string): Promise<Float32Array> {
    const tensor = this.placed.get(name);
    if (tensor === undefined) {
      throw new StorageError('invalid', `${this.file.name}: expected tensor ${quoted(name)}, it is missing.`);
    }
    const values = await this.file.read(tensor.name);
    const [rows = 1] = this.info(name)?.shape ?? [];
    return tensor.pairedHeads === undefined ? values : unpairRows(values, rows, tensor.pairedHeads);
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}

/** Held against their number first: they end as a list of the config. */
async function readRotaryFactors(
  file: GgufFile,
  fields: GgufFields,
  expected: number,
): Promise<readonly number[] | undefined> {
  const tensor = file.tensors.get(ROTARY_FACTORS);
  if (tensor === undefined) return undefined;
  if (tensor.shape.join() === String(expected)) return [...(await file.read(ROTARY_FACTORS))];
  return fields.fail(`tensor "${ROTARY_FACTORS}": expected [${expected}], half of a head, [${tensor.shape}] came`);
}
