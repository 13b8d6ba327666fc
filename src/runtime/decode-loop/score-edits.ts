/**
 * The processors of decoding/logits-processors.ts as tensor arithmetic, for the guesses of a decode loop: minimum length,
 * repetition penalty, no-repeat n-grams, and bad words of one token. Longer bad words are not guessed.
 */
import { BOOL, type GraphBuilder, type Value } from '../graph/graph-builder.ts';
import { floatTensor } from '../tensor.ts';

/** The tokens of rows so far, [rows, L] both; what is behind a row's own end repeats its first token. */
export interface RowHistory {
  /** int64 */
  readonly tokens: Value;
  /** How many tokens before a place are the tokens that the row ends with, float32. */
  readonly repeats: Value;
}

export class ScoreEdits {
  readonly start: RowHistory;
  private readonly minimumLeft: Value;
  /** Of the vocabulary: 1 for end tokens, and as bool. */
  private readonly endFlags: Value;
  private readonly isEnd: Value;
  private readonly penalty: Value;
  private readonly ngramSize: Value;
  private readonly bans: Value;
  private readonly isEdited: Value;
  /** int64 [rows, 1]: place of the token that the first turn reads. */
  private readonly lastPlace: Value;
  /** int64 [1, L] */
  private readonly historyPlaces: Value;

  /**
   * Declares: minimum_left int64 [rows, 1], new tokens that must come before an end token may; history int64 and
   * repeats float32 [rows, L], as RowHistory; history_end int64 [rows, 1], place of a row's last token; history_places
   * int64 [1, L] = 0, 1, …; penalty float32 [rows, 1] (1: none); ngram_size float32 [rows, 1] (0: none); banned int64
   * [n, 2] of (row, id), one at least, (row, vocabulary) being nobody's; edited (`GraphBuilder.flag`), none where only
   * minimum_left is needed.
   */
  constructor(
    private readonly graph: GraphBuilder,
    private readonly vocabularySize: number,
    eosTokenIds: readonly number[],
  ) {
    this.minimumLeft = graph.input('minimum_left', 'int64', ['rows', 1]);
    this.start = {
      tokens: graph.input('history', 'int64', ['rows', 'history_length']),
      repeats: graph.input('repeats', 'float32', ['rows', 'history_length']),
    };
    this.lastPlace = graph.input('history_end', 'int64', ['rows', 1]);
    this.historyPlaces = graph.input('history_places', 'int64', [1, 'history_length']);
    this.penalty = graph.input('penalty', 'float32', ['rows', 1]);
    this.ngramSize = graph.input('ngram_size', 'float32', ['rows', 1]);
    this.bans = graph.input('banned', 'int64', ['ban_count', 2]);
    this.isEdited = graph.flag('edited');
    const ends = new Float32Array(vocabularySize);
    for (const id of eosTokenIds) ends[id] = 1;
    this.endFlags = graph.constant('end_flags', floatTensor(ends, [vocabularySize]));
    this.isEnd = graph.node('Cast', [this.endFlags], { to: BOOL });
  }

  /** Whether tokens int64 [..] are end tokens, float32 [..]: 1 or 0. */
  ends(tokens: Value): Value {
    return this.graph.node('Gather', [this.endFlags, tokens], { axis: 0 });
  }

  /** Scores [rows, vocabulary] as the chain leaves them before sampling; what is banned is -inf. */
  edit(scores: Value, history: RowHistory, iteration: Value): Value {
    const { graph, vocabularySize } = this;
    const isEarly = graph.node('And', [graph.node('Less', [iteration, this.minimumLeft]), this.isEnd]);
    const ended = graph.node('Where', [isEarly, this.negativeInfinity(), scores]);
    return graph.either(
      this.isEdited,
      { type: 'float32', dims: ['rows', vocabularySize] },
      () => this.editByHistory(ended, history, iteration),
      () => graph.node('Identity', [ended]),
    );
  }

  /** The history after `tokens` int64 [rows, 1] were chosen. */
  grown({ tokens: before, repeats }: RowHistory, tokens: Value, iteration: Value): RowHistory {
    const { graph } = this;
    const end = this.endAt(iteration);
    const next = graph.node('Add', [end, graph.integers(1)]);
    // what lies behind its own end is no repeat
    const isSame = graph.node('And', [
      graph.node('Equal', [before, tokens]),
      graph.node('LessOrEqual', [this.historyPlaces, end]),
    ]);
    const longer = graph.node('Add', [repeats, graph.scalar('one', 1)]);
    const matched = graph.node('Where', [isSame, longer, graph.scalar('zero', 0)]);
    return {
      tokens: graph.node('Where', [graph.node('Equal', [this.historyPlaces, next]), tokens, before]),
      // a place's count is of the tokens before it
      repeats: graph.node('Pad', [matched, graph.integers(0, 1, 0, -1)]),
    };
  }

  private editByHistory(scores: Value, { tokens, repeats }: RowHistory, iteration: Value): Value {
    const { graph, vocabularySize } = this;
    const zero = graph.scalar('zero', 0);
    const own = graph.node('GatherElements', [scores, tokens], { axis: 1 });
    const dearer = graph.node('Where', [
      graph.node('Less', [own, zero]),
      graph.node('Mul', [own, this.penalty]),
      graph.node('Div', [own, this.penalty]),
    ]);
    const penalized = graph.node('ScatterElements', [scores, tokens, dearer], { axis: 1 });
    const needed = graph.node('Sub', [this.ngramSize, graph.scalar('one', 1)]);
    const isRepeated = graph.node('And', [
      graph.node('And', [
        graph.node('GreaterOrEqual', [repeats, needed]),
        graph.node('Greater', [this.ngramSize, zero]),
      ]),
      graph.node('LessOrEqual', [this.historyPlaces, this.endAt(iteration)]),
    ]);
    // whoever is not banned goes into a column of its own behind the vocabulary, so that no id is written twice
    const nobody = graph.constant('nobody', { data: BigInt64Array.of(BigInt(vocabularySize)), dims: [] });
    const ids = graph.node('Where', [isRepeated, tokens, nobody]);
    const width = graph.integers(vocabularySize + 1);
    const wide = graph.node('Concat', [graph.size(scores, 0), width], { axis: 0 });
    const nothing = graph.node('Expand', [zero, wide]);
    const infinities = graph.node('Expand', [this.negativeInfinity(), graph.node('Shape', [ids])]);
    const byNgrams = graph.node('ScatterElements', [nothing, ids, infinities], { axis: 1 });
    const banCount = graph.size(this.bans, 0);
    const banned = graph.node('Expand', [this.negativeInfinity(), banCount]);
    const all = graph.node('ScatterND', [byNgrams, this.bans, banned]);
    const bias = graph.node('Slice', [all, graph.integers(0), graph.integers(vocabularySize), graph.integers(1)]);
    return graph.node('Add', [penalized, bias]);
  }

  private endAt(iteration: Value): Value {
    return this.graph.node('Add', [this.lastPlace, iteration]);
  }

  private negativeInfinity(): Value {
    return this.graph.scalar('negative_infinity', Number.NEGATIVE_INFINITY);
  }
}
