/** What each family's model is made of: its tensors and modules. */
import { decoderOnlyLinearModules, decoderOnlyOtherModules } from '../decoder-only/decoder-only-modules.ts';
import {
  checkDecoderOnlyTensors,
  embeddingsName as decoderOnlyEmbeddings,
  decoderOnlyTensorShapes,
} from '../decoder-only/decoder-only-tensors.ts';
import { t5LinearModules, t5OtherModules } from '../t5/t5-modules.ts';
import { checkT5Tensors, t5TensorShapes } from '../t5/t5-tensors.ts';
import type { LinearModule } from './linear-module.ts';
import type { ModelConfig } from './model-config.ts';
import { countElements, type TensorCatalog, type TensorShapes } from './tensor-catalog.ts';

/** Name → shape of every tensor that must be there; a T5 may have a head of its own beside them. */
export function tensorShapes(config: ModelConfig): TensorShapes {
  return config.family === 't5' ? t5TensorShapes(config) : decoderOnlyTensorShapes(config);
}

/** Throws INVALID_MODEL listing what is missing or has another shape or type; returns warnings about what is not used. */
export function checkModelTensors(config: ModelConfig, catalog: TensorCatalog): readonly string[] {
  return config.family === 't5' ? checkT5Tensors(config, catalog) : checkDecoderOnlyTensors(config, catalog);
}

/** The name of the table of word embeddings. */
export function embeddingsName(config: ModelConfig): string {
  return config.family === 't5' ? 'shared.weight' : decoderOnlyEmbeddings(config);
}

/** What PEFT adapts when nothing is named (peft 0.21.2, utils/constants.py). */
export const defaultLoraTargets: Readonly<Record<ModelConfig['family'], readonly string[]>> = {
  t5: ['q', 'v'],
  gpt2: ['c_attn'],
  llama: ['q_proj', 'v_proj'],
};

/** Number of parameters of those tensors. */
export function leastParameterCount(config: ModelConfig): number {
  return countElements(tensorShapes(config));
}

/** The linear modules in the order of the model, the output head last. */
export function linearModules(config: ModelConfig): readonly LinearModule[] {
  return config.family === 't5' ? t5LinearModules(config) : decoderOnlyLinearModules(config);
}

/** The paths of everything else that has a path: embeddings, norms, activations, and what holds other modules. */
export function otherModules(config: ModelConfig): ReadonlySet<string> {
  return config.family === 't5' ? t5OtherModules(config) : decoderOnlyOtherModules(config);
}
