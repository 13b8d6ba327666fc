/** The weights of a decoder-only model in the form that its graph takes: [out, in], and stacked where they share an input. */

import { HEAD_PATH } from '../models/linear-module.ts';
import type { DecoderOnlyConfig } from '../models/model-config.ts';
import type { TensorSource } from '../models/tensor-catalog.ts';
import { joinRows } from '../tensor.ts';
import { decoderOnlyTensorShapes, embeddingsName } from './decoder-only-tensors.ts';

export interface DecoderOnlyParameters {
  /** By the names of the tensors; a stack lies under the name of its first. */
  readonly tensors: ReadonlyMap<string, Float32Array>;
  /** [vocabulary, d] */
  readonly embeddings: Float32Array;
  /** [contextLength, d]; GPT-2 only. */
  readonly positionEmbeddings: Float32Array | undefined;
  /** [vocabulary, d]; the same array as `embeddings` when the head is tied. */
  readonly head: Float32Array;
}

const POSITIONS = 'transformer.wpe.weight';

/** Matrices that share an input: what follows lies under the first. */
const STACKS: readonly { readonly first: RegExp; readonly rest: readonly string[] }[] = [
  { first: /\.q_proj\.weight$/, rest: ['k_proj.weight', 'v_proj.weight'] },
  { first: /\.gate_proj\.weight$/, rest: ['up_proj.weight'] },
];
const STACKED = /\.(k_proj|v_proj|up_proj)\.weight$/;
/** GPT-2's Conv1D. */
const TRANSPOSED = /\.(c_attn|c_proj|c_fc)\.weight$/;

/** Reads all tensors; `onTensor` is called after each. The source has been checked against the config before. */
export async function readDecoderOnlyParameters(
  config: DecoderOnlyConfig,
  source: TensorSource,
  onTensor: () => void = () => {},
): Promise<DecoderOnlyParameters> {
  const read = async (name: string): Promise<Float32Array> => {
    const data = await source.read(name);
    onTensor();
    return data;
  };
  const tensors = new Map<string, Float32Array>();
  const tables = new Set([embeddingsName(config), POSITIONS, `${HEAD_PATH}.weight`]);
  for (const [name, [rows = 0]] of decoderOnlyTensorShapes(config)) {
    if (tables.has(name) || STACKED.test(name)) continue;
    const data = await read(name);
    const stack = STACKS.find(({ first }) => first.test(name));
    if (stack !== undefined) tensors.set(name, await stacked(data, name, stack.rest, read));
    else tensors.set(name, TRANSPOSED.test(name) ? transposed(data, rows) : data);
  }
  const embeddings = await read(embeddingsName(config));
  return {
    tensors,
    embeddings,
    positionEmbeddings: config.family === 'gpt2' ? await read(POSITIONS) : undefined,
    head: config.tiedHead ? embeddings : await read(`${HEAD_PATH}.weight`),
  };
}

/** Rows of several matrices under each other. */
async function stacked(
  first: Float32Array,
  name: string,
  rest: readonly string[],
  read: (name: string) => Promise<Float32Array>,
): Promise<Float32Array> {
  const holder = name.slice(0, name.lastIndexOf('.', name.length - '.weight'.length - 1) + 1);
  const parts = [first];
  for (const ending of rest) parts.push(await read(holder + ending));
  return joinRows(parts);
}

/** [rows, columns] → [columns, rows]. */
export function transposed(data: Float32Array, rows: number): Float32Array {
  const columns = data.length / rows;
  const result = new Float32Array(data.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      result[column * rows + row] = data[row * columns + column] as number;
    }
  }
  return result;
}
