/** The weights of a model's folder, opened by the names of its family. */
import { findGguf, WeightFiles } from '../../storage/model-folder.ts';
import { NamedWeights } from '../decoder-only/decoder-only-tensors.ts';
import { GgufModel } from '../gguf/gguf-model.ts';
import type { ModelConfig } from './model-config.ts';
import type { TensorCatalog, TensorSource } from './tensor-catalog.ts';

export interface ModelWeights extends TensorCatalog, TensorSource {
  close(): Promise<void>;
}

/** Opens the weights and checks all headers; values are read tensor by tensor. Throws StorageError. */
export async function openModelWeights(folder: string, config: ModelConfig): Promise<ModelWeights> {
  const gguf = await findGguf(folder);
  if (gguf !== undefined) return GgufModel.open(gguf);
  const files = await WeightFiles.open(folder);
  return config.family === 't5' ? files : new NamedWeights(config, files);
}
