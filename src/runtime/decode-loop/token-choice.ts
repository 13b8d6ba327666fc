/**
 * What a decode loop guesses that strategies choose: the tokens that the next turn reads, and the rows that they continue.
 * A guess costs a few steps where it is wrong, never a token: strategies choose by the scores that the loop reports.
 */
import { FLOAT32, type GraphBuilder, INT64, type Value } from '../graph/graph-builder.ts';
import { type HighestValues, highest } from '../output-head/head-scores.ts';
import { longTensor } from '../tensor.ts';

/** The rows of the next turn, [rows, 1] each. */
export interface Guess {
  /** int64 */
  readonly tokens: Value;
  /** int64: rows that they continue. */
  readonly parents: Value;
  /** float32: sums of log-probabilities, of beams. */
  readonly scores: Value;
}

const LAST_AXIS = longTensor([1], []);

/** Last axis from the first column on. */
function firstColumn(graph: GraphBuilder, x: Value): Value {
  return graph.node('Slice', [x, graph.integers(0), graph.integers(1), graph.integers(1)]);
}

function lastSum(graph: GraphBuilder, x: Value): Value {
  return graph.node('ReduceSum', [x, graph.integers(-1)], { keepdims: 1 });
}

/**
 * Greedy search and sampling. Declares, [rows, 1] each: temperature, top_p (2: all) and min_p float32, top_k int64 (1:
 * greedy); draws float32 [steps, rows] in [0, 1); ranks int64 [1, K].
 */
export class IndependentChoice {
  private readonly temperature: Value;
  private readonly topK: Value;
  private readonly topP: Value;
  private readonly minP: Value;
  private readonly draws: Value;
  private readonly ranks: Value;
  /** K, int64 [1]. */
  readonly listCount: Value;

  constructor(private readonly graph: GraphBuilder) {
    this.temperature = graph.input('temperature', 'float32', ['rows', 1]);
    this.topK = graph.input('top_k', 'int64', ['rows', 1]);
    this.topP = graph.input('top_p', 'float32', ['rows', 1]);
    this.minP = graph.input('min_p', 'float32', ['rows', 1]);
    this.draws = graph.input('draws', 'float32', ['step_count', 'rows']);
    this.ranks = graph.input('ranks', 'int64', [1, 'list_length']);
    this.listCount = graph.size(this.ranks, 1);
  }

  /** int64 [rows, 1]: where the cumulative distribution of what is kept of the best [rows, K] passes the turn's draw. */
  choose(best: HighestValues, iteration: Value): Value {
    const { graph } = this;
    const zero = graph.scalar('zero', 0);
    const scaled = graph.node('Div', [best.values, this.temperature]);
    const relative = graph.node('Exp', [graph.node('Sub', [scaled, firstColumn(graph, scaled)])]);
    const isListed = graph.node('Less', [this.ranks, this.topK]);
    const weights = graph.node('Where', [isListed, relative, zero]);
    const shares = graph.node('Div', [weights, lastSum(graph, weights)]);
    const before = graph.node('CumSum', [shares, graph.constant('last_axis', LAST_AXIS)], { exclusive: 1 });
    const isNucleus = graph.node('Less', [before, this.topP]);
    const isLikely = graph.node('GreaterOrEqual', [weights, this.minP]);
    const isKept = graph.node('And', [graph.node('And', [isListed, isNucleus]), isLikely]);
    const kept = graph.node('Where', [isKept, weights, zero]);
    const cumulative = graph.node('CumSum', [kept, graph.constant('last_axis', LAST_AXIS)]);
    const draw = graph.node('Reshape', [
      graph.node('Gather', [this.draws, iteration], { axis: 0 }),
      graph.integers(-1, 1),
    ]);
    const goal = graph.node('Mul', [lastSum(graph, kept), draw]);
    const isPassed = graph.node('And', [graph.node('LessOrEqual', [cumulative, goal]), isKept]);
    const count = (flags: Value): Value => lastSum(graph, graph.node('Cast', [flags], { to: FLOAT32 }));
    const last = graph.node('Sub', [count(isKept), graph.scalar('one', 1)]);
    const rank = graph.node('Max', [graph.node('Min', [count(isPassed), last]), zero]);
    return graph.node('GatherElements', [best.ids, graph.node('Cast', [rank], { to: INT64 })], { axis: 1 });
  }
}

/**
 * Beam search, beside rows of others. Declares: beam_rows int64 [g, Q], the rows of each request's beams, the first one
 * where it has fewer; beam_bias float32 [g, Q, 1], -inf for these; row_guesses int64 [rows], of each row the
 * place of its guess: its own number, or rows + its beam's place in beam_rows.
 */
export class BeamChoice {
  private readonly rows: Value;
  private readonly bias: Value;
  private readonly count: Value;
  private readonly guesses: Value;

  constructor(private readonly graph: GraphBuilder) {
    this.rows = graph.input('beam_rows', 'int64', ['beam_requests', 'beams']);
    this.bias = graph.input('beam_bias', 'float32', ['beam_requests', 'beams', 1]);
    this.count = graph.size(this.rows, 1);
    this.guesses = graph.input('row_guesses', 'int64', ['rows']);
  }

  /**
   * Puts beams in the place of what `independent` guessed for their rows. `best`: [rows, K], of log-probabilities;
   * `ends` [rows, K]: 1 where a candidate ends its beam, which is not run on then.
   */
  choose(best: HighestValues, ends: Value, independent: Guess): Guess {
    const { graph, rows } = this;
    // 0 · ∞ is no number
    const isEnd = graph.node('Greater', [ends, graph.scalar('zero', 0)]);
    const totals = graph.node('Add', [best.values, independent.scores]);
    const running = graph.node('Where', [isEnd, graph.scalar('negative_infinity', Number.NEGATIVE_INFINITY), totals]);
    const flat = (x: Value): Value => graph.node('Reshape', [x, graph.integers(0, -1)]);
    const together = graph.node('Add', [graph.node('Gather', [running, rows], { axis: 0 }), this.bias]); // [g, Q, K]
    const chosen = highest(graph, flat(together), this.count); // [g, Q]
    const listLength = graph.size(best.ids, 1);
    const beams = graph.node('Div', [chosen.ids, listLength]);
    const parents = graph.node('GatherElements', [rows, beams], { axis: 1 });
    const ids = flat(graph.node('Gather', [best.ids, rows], { axis: 0 }));
    const tokens = graph.node('GatherElements', [ids, chosen.ids], { axis: 1 });
    const choose = (own: Value, others: Value): Value => {
      const column = graph.node('Reshape', [others, graph.integers(-1, 1)]);
      return graph.node('Gather', [graph.node('Concat', [own, column], { axis: 0 }), this.guesses], { axis: 0 });
    };
    return {
      tokens: choose(independent.tokens, tokens),
      parents: choose(independent.parents, parents),
      scores: choose(independent.scores, chosen.values),
    };
  }
}
