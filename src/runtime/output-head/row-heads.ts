/** The output head of each row: the model's own, or one that the row's adapters change. */
import type { RowNeeds, RowScores } from '../decoding/decoding-strategy.ts';
import type { AdapterCombination } from '../lora/adapter-combination.ts';
import type { AdapterUnits } from '../lora/adapter-units.ts';
import type { AdaptedPart } from '../models/adapting-runner.ts';
import { HEAD_PATH } from '../models/linear-module.ts';
import type { AdaptedHead } from './adapted-head.ts';
import { gatherRows } from './head-scores.ts';
import type { OutputHead } from './output-head.ts';

export class RowHeads implements AdaptedPart {
  constructor(
    private readonly own: OutputHead,
    private readonly adapted: AdaptedHead,
    /** Length of a state. */
    private readonly size: number,
  ) {}

  get adaptedBytes(): number {
    return this.adapted.byteLength;
  }

  prepare(combination: AdapterCombination, running: readonly AdapterCombination[]): number {
    return changesHead(combination) ? this.adapted.prepare(combination, running) : 0;
  }

  /** `states` [rows, size]; `needs` and `adapters` by row. Rows whose adapters change the head alike share one. */
  async score(
    states: Float32Array,
    needs: readonly RowNeeds[],
    adapters: readonly AdapterCombination[],
  ): Promise<readonly RowScores[]> {
    const changing = new Set(adapters.filter(changesHead));
    if (changing.size === 0) return this.own.score(states, needs);
    const scores: RowScores[] = new Array(needs.length);
    const rowsOf = (isOne: (combination: AdapterCombination) => boolean): readonly number[] =>
      adapters.flatMap((combination, row) => (isOne(combination) ? [row] : []));
    const keep = (rows: readonly number[], found: readonly RowScores[]): void => {
      for (const [index, row] of rows.entries()) scores[row] = found[index] as RowScores;
    };
    const needsOf = (rows: readonly number[]): readonly RowNeeds[] => rows.map((row) => needs[row] as RowNeeds);
    const others = rowsOf((combination) => !changing.has(combination));
    if (others.length > 0) {
      keep(others, await this.own.score(gatherRows(states, this.size, others), needsOf(others)));
    }
    for (const combination of changing) {
      const rows = rowsOf((one) => one === combination);
      keep(rows, await this.adapted.score(states, rows, needsOf(rows), combination));
    }
    return scores;
  }

  forget(adapter: AdapterUnits): void {
    this.adapted.forget(adapter);
  }

  async dispose(): Promise<void> {
    await this.own.dispose();
    await this.adapted.dispose();
  }
}

function changesHead(combination: AdapterCombination): boolean {
  return combination.replacesHead || combination.adapts(HEAD_PATH);
}
