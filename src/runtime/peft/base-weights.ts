/** The matrices of the model that an adapter is put on, read from its folder when the adapter needs them. */
import { type FloatType, fromFloat32, isFloatType, toFloat32 } from '../../storage/float-conversion.ts';
import { WeightFiles } from '../../storage/model-folder.ts';
import { quoted } from '../../storage/storage-error.ts';
import { RuntimeError } from '../errors.ts';
import type { ModelConfig } from '../models/model-config.ts';
import { withModelErrors } from '../models/model-files.ts';
import { HEAD_PATH } from '../t5/t5-modules.ts';
import { t5TensorShapes } from '../t5/t5-tensors.ts';
import { elementCount } from '../tensor.ts';

const PREFIX = 'base_model.model.';
/** PEFT wraps modules; what it saves of a wrapped one has the wrapper's part in its name. */
const WRAPPER = /\.(?:base_layer|original_module)(?=\.weight$)/;
const HEAD = `${HEAD_PATH}.weight`;
const EMBEDDINGS = 'shared.weight';
const EMBEDDING_COPY = /^(?:encoder|decoder)\.embed_tokens\.weight$/;

/** Keeps a model's files open until it is closed. What is wrong with them is INVALID_MODEL. */
export class BaseWeights {
  private files: WeightFiles | undefined;
  private readonly shapes: ReadonlyMap<string, readonly number[]>;

  constructor(
    private readonly folder: string,
    config: ModelConfig,
  ) {
    const shapes = new Map(t5TensorShapes(config));
    this.shapes = shapes.set(HEAD, [config.vocabularySize, config.hiddenSize]);
  }

  /** Returns the model's tensor that a tensor of an adapter's file would replace, if any. */
  tensorReplacedBy(name: string): string | undefined {
    if (!name.startsWith(PREFIX)) return undefined;
    const plain = name.slice(PREFIX.length).replace(WRAPPER, '');
    const tensor = EMBEDDING_COPY.test(plain) ? EMBEDDINGS : plain;
    return this.shapes.has(tensor) ? tensor : undefined;
  }

  /** Reads a tensor of the model; a head that is tied is the embedding table. */
  read(tensor: string): Promise<Float32Array> {
    return withModelErrors(async () => {
      this.files ??= await WeightFiles.open(this.folder);
      const name = tensor === HEAD && !this.files.has(HEAD) ? EMBEDDINGS : tensor;
      const values = await this.files.read(name);
      const expected = elementCount(this.shapes.get(tensor) ?? []);
      if (values.length === expected) return values;
      const message = `The model's ${quoted(name)}: expected ${expected} values, ${values.length} came. Load the model again.`;
      throw new RuntimeError('INVALID_MODEL', message);
    });
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
