/** The modules of a T5 by their paths, as PEFT sees them: the linear ones take adapters, the others do not. */
import { HEAD_PATH, holdersOf, type LinearModule } from '../models/linear-module.ts';
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
  const linear = new Set(t5LinearModules(config).map(({ path }) => path));
  const others = new Set(['encoder.embed_tokens', 'encoder.dropout', 'decoder.embed_tokens', 'decoder.dropout']);
  for (const name of t5TensorShapes(config).keys()) {
    const path = pathOf(name);
    if (!linear.has(path)) others.add(path);
    for (const holder of holdersOf(path)) {
      others.add(holder);
      if (holder.endsWith('.DenseReluDense')) others.add(`${holder}.act`).add(`${holder}.dropout`);
      if (/\.layer\.\d+$/.test(holder)) others.add(`${holder}.dropout`);
    }
  }
  return others;
}

/** Whether a module's rows are those of the source: in the encoder, and for keys and values of cross-attention. */
export function readsSource(path: string): boolean {
  return path.startsWith('encoder.') || /EncDecAttention\.[kv]$/.test(path);
}
