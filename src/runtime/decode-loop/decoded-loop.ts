/** What a run of a decode loop gave. */
import type { RowNeeds, RowScores } from '../decoding/decoding-strategy.ts';
import type { DecodedSteps, Numbers } from '../engine/model-runner.ts';
import type { SessionOutputs } from '../session.ts';
import type { LoopRow } from './loop-rows.ts';

export class DecodedLoop implements DecodedSteps {
  private readonly stepCount: number;
  private readonly tokens: Int32Array;
  private readonly parents: Int32Array;
  /** The place of each row among those whose logits came whole. */
  private readonly wholePlaces: readonly number[];
  private readonly wholeCount: number;

  constructor(
    private readonly outputs: SessionOutputs,
    private readonly rows: readonly LoopRow[],
    private readonly vocabularySize: number,
  ) {
    this.tokens = outputs.ints('tokens');
    this.parents = outputs.ints('parents');
    this.stepCount = this.tokens.length / rows.length;
    let count = 0;
    this.wholePlaces = rows.map(({ needs }) => (needs.allLogits ? count++ : -1));
    this.wholeCount = count;
  }

  scores(step: number, row: number, needs: RowNeeds): RowScores | undefined {
    if (step >= this.stepCount) return undefined;
    const top = inOrder(
      this.part(this.outputs.ints('top_ids'), step, row),
      this.part(this.outputs.floats('top_logits'), step, row),
    );
    const { topIds } = top;
    if (topIds.length < Math.min(needs.topCount, this.vocabularySize)) return undefined;
    const askedLogits = this.askedLogits(step, row, needs.askedIds);
    if (askedLogits === undefined) return undefined;
    return {
      // not read then, and the same whoever else asks for it
      logSumExp: needs.orderOnly ? Number.NaN : (this.part(this.outputs.floats('log_sum_exp'), step, row)[0] as number),
      ...top,
      askedLogits,
      logits: needs.allLogits ? this.wholeLogits(step, row) : undefined,
    };
  }

  successor(step: number, row: number, tokenId: number, taken: ReadonlySet<number>): number | undefined {
    if (step + 1 >= this.stepCount) return undefined;
    const start = step * this.rows.length;
    const request = this.rows[row]?.request;
    for (let next = 0; next < this.rows.length; next++) {
      const isSame = this.tokens[start + next] === tokenId && this.parents[start + next] === row;
      if (isSame && !taken.has(next) && this.rows[next]?.request === request) return next;
    }
    return undefined;
  }

  newCache(step: number, row: number): Numbers {
    const data = this.outputs.floats('new_cache');
    const stride = data.length / (this.stepCount * this.rows.length);
    return { data, offset: (step * this.rows.length + row) * stride };
  }

  /** Those of [steps, rows, …] that are a row's. */
  private part<A extends Float32Array | Int32Array>(values: A, step: number, row: number): A {
    const size = values.length / (this.stepCount * this.rows.length);
    const start = (step * this.rows.length + row) * size;
    return values.subarray(start, start + size) as A;
  }

  /** Ids that are asked for are in the row's history, whose logits are reported in its order. */
  private askedLogits(step: number, row: number, ids: readonly number[]): readonly number[] | undefined {
    if (ids.length === 0) return [];
    const history = this.historyOf(step, row);
    const logits = this.part(this.outputs.floats('asked_logits'), step, row);
    const byId = new Map(history.slice(0, logits.length).map((id, place) => [id, logits[place] as number]));
    const found = ids.map((id) => byId.get(id));
    return found.includes(undefined) ? undefined : (found as readonly number[]);
  }

  /** What a row had read when the turn began: by the guesses that led to it. */
  private historyOf(step: number, row: number): readonly number[] {
    const guessed: number[] = [];
    let current = row;
    for (let before = step - 1; before >= 0; before--) {
      const place = before * this.rows.length + current;
      guessed.push(this.tokens[place] as number);
      current = this.parents[place] as number;
    }
    return [...(this.rows[current]?.history ?? []), ...guessed.reverse()];
  }

  private wholeLogits(step: number, row: number): Float32Array | undefined {
    const place = this.wholePlaces[row] ?? -1;
    if (place < 0) return undefined;
    const start = (step * this.wholeCount + place) * this.vocabularySize;
    return this.outputs.floats('all_logits').subarray(start, start + this.vocabularySize);
  }
}

/** By falling logit, the lower id first among equals: CUDA's TopK puts equals in an order of its own. */
function inOrder(
  ids: Int32Array,
  logits: Float32Array,
): { readonly topIds: Int32Array; readonly topLogits: Float32Array } {
  const isOrdered = ids.every(
    (id, rank) => rank === 0 || (logits[rank - 1] as number) !== logits[rank] || (ids[rank - 1] as number) < id,
  );
  if (isOrdered) return { topIds: ids, topLogits: logits };
  const ranks = [...ids.keys()].sort(
    (a, b) => (logits[b] as number) - (logits[a] as number) || (ids[a] as number) - (ids[b] as number),
  );
  return {
    topIds: Int32Array.from(ranks, (rank) => ids[rank] as number),
    topLogits: Float32Array.from(ranks, (rank) => logits[rank] as number),
  };
}
