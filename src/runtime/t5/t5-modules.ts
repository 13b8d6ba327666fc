/** The modules of a T5 by their paths, as PEFT sees them: the linear ones take adapters, the others do not. */
import { HEAD_PATH, type LinearModule, pathsBeside } from '../models/linear-module.ts';
import type { T5Config } from '../models/model-config.ts';
import { t5TensorShapes } from './t5-tensors.ts';

const EMBEDDINGS = /(^|\.)(shared|embed_tokens|relative_attention_bias)$/;
const LINEAR_DIMENSIONS = 2;

function pathOf(tensorName: string): string {
  return tensorName.replace(/\.weight$/, '');
}

/** Returns the linear modules in the order of the model, the output head last. */
export function t5LinearModules(config: T5Config): readonly LinearModule[] {
  const modules: LinearModule[] = [];
  for (const [name, shape] of t5TensorShapes(config)) {
    const path = pathOf(name);
    const [outSize, inSize] = shape;
    if (shape.length !== LINEAR_DIMENSIONS || EMBEDDINGS.test(path)) continue;
    modules.push({ path, inSize: inSize as number, outSize: outSize as number });
  }
  return [...modules, { path: HEAD_PATH, inSize: config.hiddenSize, outSize: config.vocabularySize }];
}

/** Returns the paths of everything else that has a path: embeddings, norms, activations, and what holds other modules. */
export function t5OtherModules(config: T5Config): ReadonlySet<string> {
  const names = t5TensorShapes(config).keys();
  const others = pathsBeside(t5LinearModules(config), names, (holder) => [
    ...(holder.endsWith('.DenseReluDense') ? [`${holder}.act`, `${holder}.dropout`] : []),
    ...(/\.layer\.\d+$/.test(holder) ? [`${holder}.dropout`] : []),
  ]);
  for (const stack of ['encoder', 'decoder']) others.add(`${stack}.embed_tokens`).add(`${stack}.dropout`);
  return others;
}

/** Whether a module's rows are those of the source: in the encoder, and for keys and values of cross-attention. */
export function readsSource(path: string): boolean {
  return path.startsWith('encoder.') || /EncDecAttention\.[kv]$/.test(path);
}
