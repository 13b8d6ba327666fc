/**
 * Rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864): pairs of a head's numbers, the n-th of its first
 * half with the n-th of its second, are turned by position · frequency n. Scalings as in transformers 5.23
 * (modeling_rope_utils.py).
 */
import type { GraphBuilder, Value } from '../graph/graph-builder.ts';
import type { LlamaConfig, RotaryScaling } from '../models/model-config.ts';
import { floatTensor } from '../tensor.ts';

export interface RotaryTables {
  /** [positions, headSize / 2] */
  readonly cosines: Float32Array;
  readonly sines: Float32Array;
}

/** Radians a position for each pair. // [headSize / 2] */
export function rotaryFrequencies({ headSize, rotary }: Pick<LlamaConfig, 'headSize' | 'rotary'>): Float64Array {
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

export function rotaryTables(config: LlamaConfig): RotaryTables {
  const frequencies = rotaryFrequencies(config);
  const length = config.contextLength * frequencies.length;
  const angle = (index: number): number =>
    Math.floor(index / frequencies.length) * (frequencies[index % frequencies.length] as number);
  return {
    cosines: Float32Array.from({ length }, (_, index) => Math.cos(angle(index))),
    sines: Float32Array.from({ length }, (_, index) => Math.sin(angle(index))),
  };
}

/** Turns each of the heads of x by the positions of its rows. */
export type Rotate = (x: Value, headCount: number) => Value;

/** Adds the tables to a graph; returns what turns sequences x [b, s, heads·dk] by `positions` [b, s]. */
export function rotateSequences(graph: GraphBuilder, config: LlamaConfig, positions: Value): Rotate {
  const { cosines, sines } = rotaryTables(config);
  const dims = [config.contextLength, config.headSize / 2];
  const tables = [
    graph.weight('rotary_cosines', floatTensor(cosines, dims)),
    graph.weight('rotary_sines', floatTensor(sines, dims)),
  ];
  return (x, headCount) => graph.node('RotaryEmbedding', [x, positions, ...tables], { num_heads: headCount });
}

/** The same of rows x [n, heads·dk] that stand alone; `positions` [n, 1]. */
export function rotateRows(graph: GraphBuilder, config: LlamaConfig, positions: Value): Rotate {
  const rotate = rotateSequences(graph, config, positions);
  return (x, headCount) => {
    const width = headCount * config.headSize;
    const turned = rotate(graph.node('Reshape', [x, graph.integers(-1, 1, width)]), headCount);
    return graph.node('Reshape', [turned, graph.integers(-1, width)]);
  };
}
