/** Models in the shape of published ones, with random weights: as large as they are, and written in a second or two. */
import { mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { t5TensorShapes } from '../../src/runtime/t5/t5-tensors.ts';
import { seededNumbers } from './seeded-numbers.ts';
import { parseT5Config } from './t5-config.ts';
import { tinyConfig } from './tiny-model.ts';

interface Shape {
  /** Gated GELU with an untied head. */
  readonly gated: boolean;
  readonly sizes: Readonly<Record<string, number>>;
}

const COMMON = {
  vocab_size: 32_128,
  d_kv: 64,
  relative_attention_num_buckets: 32,
  relative_attention_max_distance: 128,
};

export const PUBLISHED_SHAPES = {
  't5-small': {
    gated: false,
    sizes: { ...COMMON, d_model: 512, num_heads: 8, d_ff: 2048, num_layers: 6, num_decoder_layers: 6 },
  },
  'flan-t5-small': {
    gated: true,
    sizes: { ...COMMON, d_model: 512, num_heads: 6, d_ff: 1024, num_layers: 8, num_decoder_layers: 8 },
  },
  'flan-t5-base': {
    gated: true,
    sizes: { ...COMMON, d_model: 768, num_heads: 12, d_ff: 2048, num_layers: 12, num_decoder_layers: 12 },
  },
} as const satisfies Record<string, Shape>;

export type PublishedShape = keyof typeof PUBLISHED_SHAPES;

export function publishedConfig(name: PublishedShape): Readonly<Record<string, unknown>> {
  const { gated, sizes } = PUBLISHED_SHAPES[name];
  return tinyConfig({ gated, config: sizes });
}

/** A prime, so that rows of no usual length repeat. */
const POOL_LENGTH = 1_048_573;
const FLOAT_BYTES = 4;
const LENGTH_BYTES = 8;

/** Hands out stretches of one pool of random numbers, from a new place each time: drawing each would take minutes. */
class NumberPool {
  private readonly pool: Float32Array;
  private readonly scaled = new Map<number, Buffer>();
  private position = 0;

  constructor(seed: number) {
    const next = seededNumbers(seed);
    // a sum of four is bell-shaped enough; its variance is 1
    const bell = (): number => (next() + next() + next() + next() - 2) * Math.sqrt(3);
    this.pool = Float32Array.from({ length: POOL_LENGTH }, bell);
  }

  /** Bytes of `length` numbers times `scale`. */
  take(length: number, scale: number): readonly Uint8Array[] {
    const bytes = this.scaled.get(scale) ?? Buffer.from(this.pool.map((value) => value * scale).buffer);
    this.scaled.set(scale, bytes);
    const parts: Uint8Array[] = [];
    for (let left = length; left > 0; ) {
      const count = Math.min(left, POOL_LENGTH - this.position);
      parts.push(bytes.subarray(this.position * FLOAT_BYTES, (this.position + count) * FLOAT_BYTES));
      this.position = (this.position + count) % POOL_LENGTH;
      left -= count;
    }
    return parts;
  }
}

/** As in tiny-model.ts: so large that answers differ by input. */
function scaleOf(name: string, columns: number): number {
  if (name === 'shared.weight' || name.includes('relative_attention_bias')) return 1;
  // T5 does not scale its attention scores, so its queries are small
  const queries = name.endsWith('Attention.q.weight') ? 1 / 8 : 1;
  return (1.6 * queries) / Math.sqrt(columns);
}

/** Writes the config and the weights of a model, in float32, into a new folder; whoever made `parent` removes it. */
export async function writePublishedShape(parent: string, name: PublishedShape, seed: number): Promise<string> {
  const folder = join(parent, name);
  await mkdir(folder);
  const json = publishedConfig(name);
  await writeFile(join(folder, 'config.json'), JSON.stringify(json));
  const config = parseT5Config(json);
  const shapes = new Map(t5TensorShapes(config));
  if (!config.scaleDecoderOutput) shapes.set('lm_head.weight', [config.vocabularySize, config.hiddenSize]);
  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const [tensor, shape] of shapes) {
    const end = offset + FLOAT_BYTES * shape.reduce((product, size) => product * size, 1);
    header[tensor] = { dtype: 'F32', shape, data_offsets: [offset, end] };
    offset = end;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeBigUInt64LE(BigInt(text.length));
  const pool = new NumberPool(seed);
  const file = await open(join(folder, 'model.safetensors'), 'w');
  try {
    await file.writev([length, text]);
    for (const [tensor, [rows = 1, columns]] of shapes) {
      const ones = columns === undefined ? [Buffer.from(new Float32Array(rows).fill(1).buffer)] : undefined;
      await file.writev([...(ones ?? pool.take(rows * (columns ?? 1), scaleOf(tensor, columns ?? 1)))]);
    }
  } finally {
    await file.close();
  }
  return folder;
}
