/**
 * The output head: from a row's final states to what its strategy wants of the logits. Graphs of their own, apart from
 * the model's, because most greedy rows never need the whole head (head-screen.ts).
 */
import type { RowNeeds, RowScores } from '../decoding/decoding-strategy.ts';
import { GraphBuilder, type Value } from '../graph/graph-builder.ts';
import { linear } from '../graph/layers.ts';
import type { OnnxModel } from '../graph/model-proto.ts';
import { type Int8Format, type QuantizedMatrix, ROW_ZEROS, RowQuantizer, rowZeros } from '../graph/quantized-linear.ts';
import { type Feeds, Session } from '../session.ts';
import { floatTensor, longTensor } from '../tensor.ts';
import { declareScores, gatherRows, runScores } from './head-scores.ts';
import { HeadScreen } from './head-screen.ts';

/** Heads of fewer weights than this are multiplied faster than they are screened. */
const SCREENED_FROM = 2 ** 22;
const NO_IDS: ReadonlySet<number> = new Set();

/** A head in 8 bits. */
export interface IntegerHead {
  /** [size, vocabulary] */
  readonly matrix: QuantizedMatrix;
  readonly rowBytes: Int8Format['rowBytes'];
}

export interface OutputHeadOptions {
  readonly threadCount: number;
  /** Whether rows that need no more than the order of the best are screened; absent: where it pays. */
  readonly screened?: boolean;
  /**
   * Whether somebody else keeps `head` anyway: then one that is screened is read in place, as an input. A session that
   * packs a copy for itself is a third faster for a few rows, and takes as much memory again.
   */
  readonly isShared?: boolean;
}

/**
 * Rows of a run that reads the head in place, from two on: onnxruntime cuts the inner axis of a product by the number
 * of its columns, which are the rows here, and up to so many in one way only.
 */
const [LEAST_ROWS, MOST_ROWS] = [2, 16];

/** Inputs: states [r, d] and those of head-scores.ts; head [vocabulary, d] where it is read in place. */
function buildHead(head: Float32Array, size: number, inPlace: boolean): OnnxModel {
  const graph = new GraphBuilder('output-head');
  const dims = [head.length / size, size] as const;
  const [vocabularySize] = dims;
  const states = graph.input('states', 'float32', ['rows', size]);
  const logits = inPlace
    ? logitsInPlace(graph, states, graph.input('head', 'float32', dims))
    : linear(graph, states, graph.weight('head', floatTensor(head, dims)));
  declareScores(graph, logits, vocabularySize);
  return graph.build();
}

/** As `buildHead`, with 8-bit weights; beside its inputs those of quantized rows. */
function buildIntegerHead({ matrix, rowBytes }: IntegerHead, size: number): OnnxModel {
  const graph = new GraphBuilder('output-head');
  const states = graph.input('states', 'float32', ['rows', size]);
  const logits = new RowQuantizer(graph, rowBytes).product(states, 'head', matrix);
  declareScores(graph, logits, matrix.scales.length);
  return graph.build();
}

/** The large matrix on the left: there it is read as it lies, on the right it would be packed for every run. */
function logitsInPlace(graph: GraphBuilder, states: Value, head: Value): Value {
  const columns = graph.node('Transpose', [states], { perm: [1, 0] });
  return graph.node('Transpose', [graph.node('MatMul', [head, columns])], { perm: [1, 0] });
}

export class OutputHead {
  private constructor(
    private readonly session: Session,
    private readonly screen: HeadScreen | undefined,
    private readonly size: number,
    private readonly vocabularySize: number,
    /** What runs that read the head in place are fed beside their rows. */
    private readonly fixed: Feeds | undefined,
  ) {}

  /** `head` [vocabulary, size]; kept where rows are screened. */
  static async create(head: Float32Array, size: number, options: OutputHeadOptions): Promise<OutputHead> {
    const { threadCount, screened = head.length >= SCREENED_FROM, isShared = false } = options;
    const inPlace = screened && isShared;
    const session = await Session.create(buildHead(head, size, inPlace), { threadCount });
    const screen = screened ? await HeadScreen.create(head, size, threadCount) : undefined;
    const vocabularySize = head.length / size;
    const fixed = inPlace ? { head: floatTensor(head, [vocabularySize, size]) } : undefined;
    return new OutputHead(session, screen, size, vocabularySize, fixed);
  }

  /** An 8-bit head: all rows are its own, none is screened. */
  static async createInteger(
    head: IntegerHead,
    { threadCount }: Pick<OutputHeadOptions, 'threadCount'>,
  ): Promise<OutputHead> {
    const { scales, weights } = head.matrix;
    const vocabularySize = scales.length;
    const size = weights.length / vocabularySize;
    const session = await Session.create(buildIntegerHead(head, size), { threadCount });
    return new OutputHead(session, undefined, size, vocabularySize, undefined);
  }

  /** Bytes of the 8-bit copy, where rows are screened. */
  get screenBytes(): number {
    return this.screen === undefined ? 0 : this.vocabularySize * this.size;
  }

  /** Whether no copy of the head was packed. */
  get isInPlace(): boolean {
    return this.fixed !== undefined;
  }

  /** `states` [rows, size], one entry of `needs` for each. What a row gets does not depend on the others. */
  async score(states: Float32Array, needs: readonly RowNeeds[]): Promise<readonly RowScores[]> {
    const scores = await this.screenRows(states, needs);
    const rest = needs.flatMap((_, row) => (scores[row] === undefined ? [row] : []));
    const most = this.isInPlace ? MOST_ROWS : Math.max(1, rest.length);
    for (let start = 0; start < rest.length; start += most) {
      const rows = rest.slice(start, start + most);
      const wanted = rows.map((row) => needs[row] as RowNeeds);
      const { session, vocabularySize } = this;
      const full = await runScores({ session, feeds: this.feeds(states, rows), needs: wanted, vocabularySize });
      for (const [index, row] of rows.entries()) scores[row] = full[index] as RowScores;
    }
    return scores as readonly RowScores[];
  }

  /** All logits of `states` [rows, size], 2 to 16 rows, [rows, vocabulary]; a row's do not depend on the others. */
  async logits(states: Float32Array): Promise<Float32Array> {
    const rows = Array.from({ length: states.length / this.size }, (_, row) => row);
    const asked = { top_count: longTensor([2]), normalized: longTensor([0]), asked_index: longTensor([], [0, 2]) };
    const feeds = { ...this.feeds(states, rows), ...asked };
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

  private feeds(states: Float32Array, rows: readonly number[]): Feeds {
    const count = this.isInPlace ? Math.max(LEAST_ROWS, rows.length) : rows.length;
    const own = floatTensor(this.gather(states, rows, count), [count, this.size]);
    return { ...this.fixed, states: own, [ROW_ZEROS]: rowZeros(count) };
  }

  private gather(states: Float32Array, rows: readonly number[], length = rows.length): Float32Array {
    const isWhole = rows.length === length && length * this.size === states.length;
    return isWhole ? states : gatherRows(states, this.size, rows, length);
  }
}
