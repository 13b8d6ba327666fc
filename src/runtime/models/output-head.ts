/**
 * The output head: from a row's final states to what its strategy wants of the logits. Graphs of their own, apart from
 * the model's, because most greedy rows never need the whole head (head-screen.ts).
 */
import type { RowNeeds, RowScores } from '../decoding/decoding-strategy.ts';
import { GraphBuilder, type Value } from '../graph/graph-builder.ts';
import { linear } from '../graph/layers.ts';
import type { OnnxModel } from '../graph/model-proto.ts';
import { Session } from '../session.ts';
import { floatTensor, longTensor } from '../tensor.ts';
import { HeadScreen } from './head-screen.ts';

/** Heads of fewer weights than this are multiplied faster than they are screened. */
const SCREENED_FROM = 2 ** 22;

export interface OutputHeadOptions {
  readonly threadCount: number;
  /** Whether rows that need no more than the order of the best are screened; absent: where it pays. */
  readonly screened?: boolean;
}

/**
 * What the strategies read of the logits: little, because whole rows are slow to copy out. Inputs: states [r, d];
 * top_count [1]; asked_index [n, 2] of (row, id). Outputs: log_sum_exp [r, 1]; top_logits and top_ids [r, top_count];
 * asked_logits [n]; logits [r, vocabulary]. A run copies out only what it names.
 */
function buildHead(head: Float32Array, size: number): OnnxModel {
  const graph = new GraphBuilder('output-head');
  const vocabularySize = head.length / size;
  const states = graph.input('states', 'float32', ['rows', size]);
  const logits = linear(graph, states, graph.weight('head', floatTensor(head, [vocabularySize, size])));
  graph.output(logits, 'logits', 'float32', ['rows', vocabularySize]);
  const topCount = graph.input('top_count', 'int64', [1]);
  const best = graph.nodeWithOutputs('TopK', [logits, topCount], { axis: -1, largest: 1, sorted: 1 }, 2);
  const [topLogits, topIds] = best as [Value, Value];
  graph.output(topLogits, 'top_logits', 'float32', ['rows', 'top']);
  // int32 halves what is copied and spares JavaScript the BigInts; ids are far below 2^31
  graph.output(graph.node('Cast', [topIds], { to: 6 }), 'top_ids', 'int32', ['rows', 'top']);
  // log Σ exp by way of LogSoftmax, whose rows do not depend on how many there are; those of Log and ReduceSum do
  const maximum = graph.node('ReduceMax', [logits, graph.integers(1)], { keepdims: 1 });
  const logProbabilities = graph.node('LogSoftmax', [logits], { axis: -1 });
  const highest = graph.node('ReduceMax', [logProbabilities, graph.integers(1)], { keepdims: 1 });
  graph.output(graph.node('Sub', [maximum, highest]), 'log_sum_exp', 'float32', ['rows', 1]);
  const asked = graph.input('asked_index', 'int64', ['asked', 2]);
  graph.output(graph.node('GatherND', [logits, asked]), 'asked_logits', 'float32', ['asked']);
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
      const full = await this.scoreRows(
        this.gather(states, rest),
        rest.map((row) => needs[row] as RowNeeds),
      );
      for (const [index, row] of rest.entries()) scores[row] = full[index];
    }
    return scores as readonly RowScores[];
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
    const counts = rows.map((row) => needs[row]?.topCount ?? 0);
    for (const [index, highest] of (await screen.highest(this.gather(states, rows), counts)).entries()) {
      if (highest === undefined) continue;
      const { ids: topIds, logits: topLogits } = highest;
      scores[rows[index] as number] = { logSumExp: Number.NaN, topIds, topLogits, askedLogits: [], logits: undefined };
    }
    return scores;
  }

  private async scoreRows(states: Float32Array, needs: readonly RowNeeds[]): Promise<readonly RowScores[]> {
    const asked = needs.flatMap(({ askedIds }, row) => askedIds.flatMap((id) => [row, id]));
    // two at least: for a single one the kernel takes a slower way
    const topCount = Math.min(this.vocabularySize, Math.max(2, ...needs.map((need) => need.topCount)));
    const names = ['log_sum_exp', 'top_logits', 'top_ids'];
    if (asked.length > 0) names.push('asked_logits');
    if (needs.some(({ allLogits }) => allLogits)) names.push('logits');
    const outputs = await this.session.run(
      {
        states: floatTensor(states, [needs.length, this.size]),
        top_count: longTensor([topCount]),
        asked_index: longTensor(asked, [asked.length / 2, 2]),
      },
      names,
    );
    const logSumExp = outputs.floats('log_sum_exp');
    const topLogits = outputs.floats('top_logits');
    const topIds = outputs.ints('top_ids');
    const { vocabularySize } = this;
    let askedOffset = 0;
    return needs.map(({ askedIds, allLogits }, row): RowScores => {
      const askedStart = askedOffset;
      askedOffset += askedIds.length;
      return {
        logSumExp: logSumExp[row] as number,
        topIds: topIds.subarray(row * topCount, (row + 1) * topCount),
        topLogits: topLogits.subarray(row * topCount, (row + 1) * topCount),
        askedLogits: askedIds.length > 0 ? outputs.floats('asked_logits').subarray(askedStart, askedOffset) : [],
        logits: allLogits
          ? outputs.floats('logits').subarray(row * vocabularySize, (row + 1) * vocabularySize)
          : undefined,
      };
    });
  }

  private gather(states: Float32Array, rows: readonly number[]): Float32Array {
    if (rows.length * this.size === states.length) return states;
    const gathered = new Float32Array(rows.length * this.size);
    for (const [index, row] of rows.entries()) {
      gathered.set(states.subarray(row * this.size, (row + 1) * this.size), index * this.size);
    }
    return gathered;
  }
}
