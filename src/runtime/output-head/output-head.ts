/**
 * The output head: from a row's final states to what its strategy wants of the logits. Graphs of their own, apart from
 * the model's, because most greedy rows never need the whole head (head-screen.ts).
 */
import type { RowNeeds, RowScores } from '../decoding/decoding-strategy.ts';
import { GraphBuilder } from '../graph/graph-builder.ts';
import { linear } from '../graph/layers.ts';
import type { OnnxModel } from '../graph/model-proto.ts';
import { Session } from '../session.ts';
import { floatTensor, longTensor } from '../tensor.ts';
import { declareScores, gatherRows, runScores } from './head-scores.ts';
import { HeadScreen } from './head-screen.ts';

/** Heads of fewer weights than this are multiplied faster than they are screened. */
const SCREENED_FROM = 2 ** 22;
const NO_IDS: ReadonlySet<number> = new Set();

export interface OutputHeadOptions {
  readonly threadCount: number;
  /** Whether rows that need no more than the order of the best are screened; absent: where it pays. */
  readonly screened?: boolean;
}

/** Inputs: states [r, d] and those of head-scores.ts. */
function buildHead(head: Float32Array, size: number): OnnxModel {
  const graph = new GraphBuilder('output-head');
  const vocabularySize = head.length / size;
  const states = graph.input('states', 'float32', ['rows', size]);
  const logits = linear(graph, states, graph.weight('head', floatTensor(head, [vocabularySize, size])));
  declareScores(graph, logits, vocabularySize);
  return graph.build();
}

export class OutputHead {
  private constructor(
    private readonly session: Session,
    private readonly screen: HeadScreen | undefined,
    private readonly size: number,
    private readonly vocabularySize: number,
  ) {}

  /** `head` [vocabulary, size]; kept where rows are screened. */
  static async create(head: Float32Array, size: number, options: OutputHeadOptions): Promise<OutputHead> {
    const { threadCount, screened = head.length >= SCREENED_FROM } = options;
    const session = await Session.create(buildHead(head, size), { threadCount });
    const screen = screened ? await HeadScreen.create(head, size, threadCount) : undefined;
    return new OutputHead(session, screen, size, head.length / size);
  }

  /** Bytes that screening takes, where it is done: the 8-bit copy, and the float32 rows (shared when the head is tied). */
  get screenBytes(): number {
    return this.screen === undefined ? 0 : this.vocabularySize * this.size * 5;
  }

  /** `states` [rows, size], one entry of `needs` for each. What a row gets does not depend on the others. */
  async score(states: Float32Array, needs: readonly RowNeeds[]): Promise<readonly RowScores[]> {
    const scores = await this.screenRows(states, needs);
    const rest = needs.flatMap((_, row) => (scores[row] === undefined ? [row] : []));
    if (rest.length > 0) {
      const { session, size, vocabularySize } = this;
      const feeds = { states: floatTensor(this.gather(states, rest), [rest.length, size]) };
      const wanted = rest.map((row) => needs[row] as RowNeeds);
      const full = await runScores({ session, feeds, needs: wanted, vocabularySize });
      for (const [index, row] of rest.entries()) scores[row] = full[index];
    }
    return scores as readonly RowScores[];
  }

  /** All logits of `states` [rows, size], [rows, vocabulary]; a row's do not depend on the others. */
  async logits(states: Float32Array): Promise<Float32Array> {
    const feeds = {
      states: floatTensor(states, [states.length / this.size, this.size]),
      top_count: longTensor([2]),
      asked_index: longTensor([], [0, 2]),
    };
    return (await this.session.run(feeds, ['all_logits'])).floats('all_logits');
  }

  async dispose(): Promise<void> {
    await this.session.dispose();
    await this.screen?.dispose();
  }

  /** By row; undefined where the whole head is needed. */
  private async screenRows(states: Float32Array, needs: readonly RowNeeds[]): Promise<(RowScores | undefined)[]> {
    const scores = needs.map((): RowScores | undefined => undefined);
    const { screen } = this;
    if (screen === undefined) return scores;
    const rows = needs.flatMap(({ orderOnly, topCount }, row) =>
      orderOnly && topCount <= screen.maxCount ? [row] : [],
    );
    if (rows.length === 0 || !screen.pays(rows.length)) return scores;
    const wanted = rows.map((row) => {
      const { topCount, banned = NO_IDS } = needs[row] as RowNeeds;
      return { count: topCount - banned.size, banned };
    });
    for (const [index, highest] of (await screen.highest(this.gather(states, rows), wanted)).entries()) {
      if (highest === undefined) continue;
      const { ids: topIds, logits: topLogits } = highest;
      scores[rows[index] as number] = { logSumExp: Number.NaN, topIds, topLogits, askedLogits: [], logits: undefined };
    }
    return scores;
  }

  private gather(states: Float32Array, rows: readonly number[]): Float32Array {
    return rows.length * this.size === states.length ? states : gatherRows(states, this.size, rows);
  }
}
