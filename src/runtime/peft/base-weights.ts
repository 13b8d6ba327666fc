/** The matrices of the model that an adapter is put on, read from its folder when the adapter needs them. */
import { type FloatType, fromFloat32, isFloatType, toFloat32 } from '../../storage/float-conversion.ts';
import { quoted } from '../../storage/storage-error.ts';
import { transposed } from '../decoder-only/decoder-only-parameters.ts';
import { RuntimeError } from '../errors.ts';
import { HEAD_PATH } from '../models/linear-module.ts';
import type { ModelConfig } from '../models/model-config.ts';
import { withModelErrors } from '../models/model-files.ts';
import { embeddingsName, tensorShapes } from '../models/model-modules.ts';
import { type ModelWeights, openModelWeights } from '../models/model-weights.ts';
import { elementCount } from '../tensor.ts';

const PREFIX = 'base_model.model.';
/** PEFT wraps modules; what it saves of a wrapped one has the wrapper's part in its name. */
const WRAPPER = /\.(?:base_layer|original_module)(?=\.weight$)/;
const HEAD = `${HEAD_PATH}.weight`;
const EMBEDDING_COPY = /^(?:encoder|decoder)\.embed_tokens\.weight$/;

/** Keeps a model's files open until it is closed. What is wrong with them is INVALID_MODEL. */
export class BaseWeights {
  private files: ModelWeights | undefined;
  private readonly shapes: ReadonlyMap<string, readonly number[]>;

  constructor(
    private readonly folder: string,
    private readonly config: ModelConfig,
  ) {
    const shapes = new Map(tensorShapes(config));
    this.shapes = shapes.set(HEAD, [config.vocabularySize, config.hiddenSize]);
  }

  /** Returns the model's tensor that a tensor of an adapter's file would replace, if any. */
  tensorReplacedBy(name: string): string | undefined {
    if (!name.startsWith(PREFIX)) return undefined;
    const plain = name.slice(PREFIX.length).replace(WRAPPER, '');
    const tensor = EMBEDDING_COPY.test(plain) ? embeddingsName(this.config) : plain;
    return this.shapes.has(tensor) ? tensor : undefined;
  }

  /** Reads a tensor of the model; a head that is tied is the embedding table. */
  read(tensor: string): Promise<Float32Array> {
    return withModelErrors(async () => {
      this.files ??= await openModelWeights(this.folder, this.config);
      const isTied = this.config.family === 't5' ? !this.files.has(HEAD) : this.config.tiedHead;
      const name = tensor === HEAD && isTied ? embeddingsName(this.config) : tensor;
      const values = await this.files.read(name);
      const expected = elementCount(this.shapes.get(tensor) ?? []);
      if (values.length === expected) return values;
      const message = `The model's ${quoted(name)}: expected ${expected} values, ${values.length} came. Load the model again.`;
      throw new RuntimeError('INVALID_MODEL', message);
    });
  }

  /** Reads the matrix of a linear module, [out, in]; GPT-2 keeps its own the other way round. */
  async readMatrix(path: string): Promise<Float32Array> {
    const tensor = `${path}.weight`;
    const values = await this.read(tensor);
    const [rows = 1] = this.shapes.get(tensor) ?? [];
    return this.config.family === 'gpt2' && tensor !== HEAD ? transposed(values, rows) : values;
  }

  /** Whether an adapter's copy of a tensor is the model's own, but for the rounding of the copy's type. */
  async holds(tensor: string, values: Float32Array, dtype: string): Promise<boolean> {
    if (values.length !== elementCount(this.shapes.get(tensor) ?? []) || !isFloatType(dtype)) return false;
    const own = await this.read(tensor);
    return isRounded(own, values, dtype) || (dtype !== 'F32' && isRounded(own, values, 'F32'));
  }

  async close(): Promise<void> {
    await this.files?.close();
  }
}

function isRounded(own: Float32Array, values: Float32Array, type: FloatType): boolean {
  const rounded = toFloat32(fromFloat32(own, type), type);
  return values.every((value, index) => value === rounded[index]);
}
