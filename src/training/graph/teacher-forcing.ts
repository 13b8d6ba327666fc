/** A model's way forward over whole texts, as each family writes it and the loss reads it. */
import type { GraphBuilder, Value } from '../../runtime/graph/graph-builder.ts';
import type { LoraLayer } from '../../runtime/graph/lora.ts';
import type { NodeRange } from '../../runtime/graph/recomputation.ts';
import type { WeightInputs } from './trained-layers.ts';

export interface ForwardParts {
  readonly graph: GraphBuilder;
  readonly inputs: WeightInputs;
  readonly lora: LoraLayer;
}

export interface TeacherForcing {
  /** What the output head reads, [.., d]. */
  readonly states: Value;
  /** Inputs that are rows of the embedding table. */
  readonly embedded: readonly Value[];
  /** The nodes of each block. */
  readonly blocks: readonly NodeRange[];
}

/** Keeps account of the nodes of each block. */
export class BlockRanges {
  readonly ranges: NodeRange[] = [];

  constructor(private readonly graph: GraphBuilder) {}

  /** Runs `build`, which adds the nodes of a block. */
  block<T>(build: () => T): T {
    const from = this.graph.recorded.nodes.length;
    const built = build();
    this.ranges.push({ from, to: this.graph.recorded.nodes.length });
    return built;
  }
}
