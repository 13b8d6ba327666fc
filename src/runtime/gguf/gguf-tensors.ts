/** The names and the order of rows that llama.cpp's convert_hf_to_gguf.py gives the tensors of a Llama, turned back. */
import type { GgufFile } from '../../storage/gguf/gguf-file.ts';
import { quoted } from '../../storage/storage-error.ts';
import type { GgufArchitecture, HeadCounts } from './gguf-config.ts';
import type { GgufFields } from './gguf-fields.ts';

/** Values by which rotary frequencies are divided; Hugging Face's models compute them. */
export const ROTARY_FACTORS = 'rope_freqs.weight';

const OUTSIDE_BLOCKS: Readonly<Record<string, string>> = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
};
const IN_BLOCKS: Readonly<Record<string, string>> = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};
const BLOCK_TENSOR = /^blk\.(0|[1-9]\d{0,3})\.(\w+)\.(weight|bias)$/;

export interface PlacedTensor {
  /** In the file. */
  readonly name: string;
  /** Heads whose rows llama.cpp has in pairs; undefined: the rows are as Hugging Face has them. */
  readonly pairedHeads: number | undefined;
}

/** Hugging Face's name → where it lies. Throws StorageError on tensors that no such model has. */
export function placeTensors(
  file: GgufFile,
  fields: GgufFields,
  architecture: GgufArchitecture,
  heads: HeadCounts,
): ReadonlyMap<string, PlacedTensor> {
  const placed = new Map<string, PlacedTensor>();
  for (const [name, { shape }] of file.tensors) {
    if (name === ROTARY_FACTORS) continue;
    const [, layer, part = '', kind] = BLOCK_TENSOR.exec(name) ?? [];
    const inBlock = Object.hasOwn(IN_BLOCKS, part) ? `model.layers.${layer}.${IN_BLOCKS[part]}.${kind}` : undefined;
    const theirs = Object.hasOwn(OUTSIDE_BLOCKS, name) ? OUTSIDE_BLOCKS[name] : inBlock;
    if (theirs === undefined) return fields.fail(`expected tensors of a ${architecture}, ${quoted(name)} came`);
    const pairedHeads = architecture === 'llama' ? pairedHeadsOf(part, heads) : undefined;
    const [rows = 0] = shape;
    if (pairedHeads !== undefined && rows % (2 * pairedHeads) !== 0) {
      fields.fail(`tensor ${quoted(name)}: expected rows in pairs for ${pairedHeads} heads, ${rows} rows came`);
    }
    placed.set(theirs, { name, pairedHeads });
  }
  return placed;
}

function pairedHeadsOf(part: string, heads: HeadCounts): number | undefined {
  if (part === 'attn_q') return heads.query;
  return part === 'attn_k' ? heads.key : undefined;
}

/**
 * Undoes LlamaModel.permute: llama.cpp rotates row 2i with row 2i + 1 of a head, Hugging Face row i with row i + half.
 * Of a bias, every value is a row.
 */
export function unpairRows(values: Float32Array, rows: number, headCount: number): Float32Array {
  const width = values.length / rows;
  const headRows = rows / headCount;
  const half = headRows / 2;
  const turned = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    const inHead = row % headRows;
    const from = row - inHead + 2 * (inHead % half) + Math.floor(inHead / half);
    turned.set(values.subarray(from * width, (from + 1) * width), row * width);
  }
  return turned;
}
