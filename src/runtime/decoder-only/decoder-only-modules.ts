/** The modules of a GPT-2 or a Llama by their paths, as PEFT sees them: the linear ones take adapters, the others do not. */
import { HEAD_PATH, type LinearModule, pathsBeside } from '../models/linear-module.ts';
import type { DecoderOnlyConfig } from '../models/model-config.ts';
import { decoderOnlyTensorShapes } from './decoder-only-tensors.ts';

const TABLES = /(^|\.)(wte|wpe|embed_tokens)$/;
const WEIGHT = /\.weight$/;
const MATRIX_DIMENSIONS = 2;

/** Modules without tensors, beside what holds others. */
const EMPTY_MODULES = {
  gpt2: { model: ['transformer.drop'], '.attn': ['attn_dropout', 'resid_dropout'], '.mlp': ['act', 'dropout'] },
  llama: { model: ['model.rotary_emb'], '.self_attn': [], '.mlp': ['act_fn'] },
} as const;

/** Returns the linear modules in the order of the model, the output head last. */
export function decoderOnlyLinearModules(config: DecoderOnlyConfig): readonly LinearModule[] {
  const modules: LinearModule[] = [];
  for (const [name, shape] of decoderOnlyTensorShapes(config)) {
    const path = name.replace(WEIGHT, '');
    if (shape.length !== MATRIX_DIMENSIONS || TABLES.test(path) || path === HEAD_PATH) continue;
    const [rows, columns] = shape as [number, number];
    // Conv1D keeps its weight the other way round
    const [outSize, inSize] = config.family === 'gpt2' ? [columns, rows] : [rows, columns];
    modules.push({ path, inSize, outSize });
  }
  return [...modules, { path: HEAD_PATH, inSize: config.hiddenSize, outSize: config.vocabularySize }];
}

/** Returns the paths of everything else that has a path: embeddings, norms, activations, and what holds other modules. */
export function decoderOnlyOtherModules(config: DecoderOnlyConfig): ReadonlySet<string> {
  const { model, ...inside } = EMPTY_MODULES[config.family];
  const names = decoderOnlyTensorShapes(config).keys();
  const others = pathsBeside(decoderOnlyLinearModules(config), names, (holder) =>
    Object.entries<readonly string[]>(inside).flatMap(([ending, empty]) =>
      holder.endsWith(ending) ? empty.map((name) => `${holder}.${name}`) : [],
    ),
  );
  for (const path of model) others.add(path);
  return others;
}
