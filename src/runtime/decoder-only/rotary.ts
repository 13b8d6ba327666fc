/**
 * Rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864): pairs of a head's numbers, the n-th of its first
 * half with the n-th of its second, are turned by position · frequency n. Scalings as in transformers 5.23
 * (modeling_rope_utils.py).
 */
import type { GraphBuilder, Value } from '../graph/graph-builder.ts';
import type { LlamaConfig, RotaryScaling } from '../models/model-config.ts';
import { floatTensor, type TensorValue } from '../tensor.ts';

type RotaryConfig = Pick<LlamaConfig, 'headSize' | 'rotary'>;

/** [positions, headSize / 2] each. */
const [COSINES, SINES] = ['rotary_cosines', 'rotary_sines'];

/** Radians a position for each pair. // [headSize / 2] */
function rotaryFrequencies({ headSize, rotary }: RotaryConfig): Float64Array {
  const { theta, scaling } = rotary;
  return Float64Array.from({ length: headSize / 2 }, (_, pair) =>
    scaled(theta ** ((-2 * pair) / headSize), pair, scaling),
  );
}

function scaled(frequency: number, pair: number, scaling: RotaryScaling): number {
  switch (scaling.type) {
    case 'none':
      return frequency;
    case 'linear':
      return frequency / scaling.factor;
    case 'factors':
      return frequency / (scaling.factors[pair] ?? 1);
    case 'llama3': {
      const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContextLength } = scaling;
      // turns within the positions that the model was first trained on
      const turns = (originalContextLength * frequency) / (2 * Math.PI);
      if (turns > high) return frequency;
      if (turns < low) return frequency / factor;
      const smooth = (turns - low) / (high - low);
      return ((1 - smooth) * frequency) / factor + smooth * frequency;
    }
    default:
      return scaling satisfies never;
  }
}

/** The tables of these positions, in their order. A graph is fed those that a run needs: all would be as long as its context. */
export function rotaryFeeds(config: RotaryConfig, positions: ArrayLike<number>): Readonly<Record<string, TensorValue>> {
  const frequencies = rotaryFrequencies(config);
  const width = frequencies.length;
  const cosines = new Float32Array(positions.length * width);
  const sines = new Float32Array(positions.length * width);
  for (let row = 0; row < positions.length; row++) {
    for (let pair = 0; pair < width; pair++) {
      const angle = (positions[row] as number) * (frequencies[pair] as number);
      cosines[row * width + pair] = Math.cos(angle);
      sines[row * width + pair] = Math.sin(angle);
    }
  }
  const dims = [positions.length, width];
  return { [COSINES]: floatTensor(cosines, dims), [SINES]: floatTensor(sines, dims) };
}

/** Turns each of the heads of x by the positions of its rows. */
export type Rotate = (x: Value, headCount: number) => Value;

/** The tables' inputs, cosines and sines. */
export function rotaryTables(graph: GraphBuilder, { headSize }: RotaryConfig): readonly Value[] {
  const dims = ['rotary_positions', headSize / 2];
  return [graph.input(COSINES, 'float32', dims), graph.input(SINES, 'float32', dims)];
}

/** Returns what turns sequences x [b, s, heads·dk]; `places` [b, s] are theirs in the tables, which runs are fed. */
export function rotateSequences(graph: GraphBuilder, tables: readonly Value[], places: Value): Rotate {
  return (x, headCount) => graph.node('RotaryEmbedding', [x, places, ...tables], { num_heads: headCount });
}

/** The same of rows x [n, heads·dk] that stand alone; `places` [n, 1]. */
export function rotateRows(
  graph: GraphBuilder,
  { headSize }: RotaryConfig,
  tables: readonly Value[],
  places: Value,
): Rotate {
  const rotate = rotateSequences(graph, tables, places);
  return (x, headCount) => {
    const width = headCount * headSize;
    const turned = rotate(graph.node('Reshape', [x, graph.integers(-1, 1, width)]), headCount);
    return graph.node('Reshape', [turned, graph.integers(-1, width)]);
  };
}
