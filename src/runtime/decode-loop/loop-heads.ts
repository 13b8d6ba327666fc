/**
 * Output heads that adapters bring in the place of the model's own, for rows of a decode loop. As adapted-head.ts:
 * own + Σ weight · (theirs − own), and a head that counts alone and once is itself.
 */
import { BOOL, type GraphBuilder, type Value } from '../graph/graph-builder.ts';
import { linear } from '../graph/layers.ts';
import type { AdapterCombination } from '../lora/adapter-combination.ts';
import type { AdapterUnits } from '../lora/adapter-units.ts';
import { CombinationCache } from '../lora/combination-cache.ts';
import type { AdaptedPart } from '../models/adapting-runner.ts';
import { BlendedHead } from '../output-head/blended-head.ts';
import { countTensor, floatTensor, joinRows, longTensor } from '../tensor.ts';
import type { LoopFeeds } from './loop-feeds.ts';

export interface LoopHeadShape {
  readonly vocabularySize: number;
  readonly hiddenSize: number;
}

/** The graph's side. */
export class ReplacedLogits {
  private readonly heads: Value;
  private readonly places: Value;
  private readonly isReplaced: Value;
  private readonly ownShare: Value;
  private readonly hasHeads: Value;

  /**
   * Declares: has_heads (`GraphBuilder.flag`), none: all rows have the model's own; replaced_heads [n, v, d], with v
   * the vocabulary where there are heads; replaced_places int64 [rows, 2] of (head, row); is_replaced int64 [rows, 1];
   * own_head_share [rows, 1].
   */
  constructor(
    private readonly graph: GraphBuilder,
    private readonly shape: LoopHeadShape,
  ) {
    this.heads = graph.input('replaced_heads', 'float32', ['heads', 'head_rows', shape.hiddenSize]);
    this.places = graph.input('replaced_places', 'int64', ['rows', 2]);
    this.isReplaced = graph.node('Cast', [graph.input('is_replaced', 'int64', ['rows', 1])], { to: BOOL });
    this.ownShare = graph.input('own_head_share', 'float32', ['rows', 1]);
    this.hasHeads = graph.flag('has_heads');
  }

  /** `own` [rows, vocabulary]: of the model's own head. */
  replace(states: Value, own: Value): Value {
    const { graph } = this;
    return graph.either(
      this.hasHeads,
      { type: 'float32', dims: ['rows', this.shape.vocabularySize] },
      () => {
        const all = linear(graph, graph.node('Unsqueeze', [states, graph.integers(0)]), this.heads); // [n, rows, v]
        const theirs = graph.node('GatherND', [all, this.places]);
        const blended = graph.node('Add', [theirs, graph.node('Mul', [own, this.ownShare])]);
        const isAlone = graph.node('Equal', [this.ownShare, graph.scalar('zero', 0)]);
        const counted = graph.node('Where', [isAlone, theirs, blended]);
        // chosen, not weighed: what a head makes of others' rows reaches nobody
        return graph.node('Where', [this.isReplaced, counted, own]);
      },
      () => graph.node('Identity', [own]),
    );
  }
}

/** The heads of the adapters that are kept, and what runs are fed of them. */
export class LoopHeads implements AdaptedPart {
  private readonly heads: CombinationCache<BlendedHead>;

  constructor(
    private readonly shape: LoopHeadShape,
    keptBytes: number,
  ) {
    this.heads = new CombinationCache(keptBytes, (combination) => new BlendedHead(combination));
  }

  get adaptedBytes(): number {
    return this.heads.byteLength;
  }

  prepare(combination: AdapterCombination, running: readonly AdapterCombination[]): number {
    const bytes = combination.replacesHead ? this.heads.of(combination).prepare() : 0;
    this.heads.evict(new Set([combination, ...running]));
    return bytes;
  }

  forget(adapter: AdapterUnits): void {
    this.heads.forget(adapter);
  }

  async dispose(): Promise<void> {}

  /** `rows`: the adapters of each. */
  feeds(rows: readonly AdapterCombination[]): LoopFeeds {
    const { vocabularySize, hiddenSize } = this.shape;
    const replacing = [...new Set(rows.filter(({ replacesHead }) => replacesHead))];
    const heads = replacing.map((combination) => this.heads.of(combination));
    const isAny = heads.length > 0;
    const shares = rows.map((combination) => heads[replacing.indexOf(combination)]?.ownShare ?? 0);
    return {
      has_heads: countTensor(Number(isAny)),
      replaced_heads: isAny
        ? floatTensor(joinRows(heads.map((head) => head.whole())), [heads.length, vocabularySize, hiddenSize])
        : floatTensor(new Float32Array(hiddenSize), [1, 1, hiddenSize]),
      replaced_places: longTensor(
        rows.flatMap((combination, row) => [Math.max(0, replacing.indexOf(combination)), row]),
        [rows.length, 2],
      ),
      is_replaced: longTensor(
        rows.map(({ replacesHead }) => Number(replacesHead)),
        [rows.length, 1],
      ),
      own_head_share: floatTensor(Float32Array.from(shares), [rows.length, 1]),
    };
  }
}
