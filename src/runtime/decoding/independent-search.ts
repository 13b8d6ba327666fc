/** Greedy search and sampling: each returned sequence goes its own way; all start from one row. */
import { invariant } from '../errors.ts';
import type {
  Advance,
  DecodingStrategy,
  GeneratedSequence,
  GeneratedToken,
  NextRow,
  RowNeeds,
  RowScores,
  RunningRow,
  TokensAppended,
} from './decoding-strategy.ts';
import { hasReach, likelyCandidates } from './likely-candidates.ts';
import { type Candidate, editsOf, probabilitiesOf, type RowEdits, warp } from './logits-processors.ts';
import { uniform } from './random.ts';
import { candidatesOf, needsOf } from './row-candidates.ts';
import type { SamplingParams } from './sampling-params.ts';
import { type FinishReason, StoppingCriteria } from './stopping-criteria.ts';
import { recordToken, type StrategyContext } from './strategy-context.ts';

/** Up to this many of the best tokens are asked for as a list; for more, the whole row is as cheap. */
const LONGEST_LIST = 512;

interface Row {
  readonly index: number;
  readonly history: number[];
  readonly tokens: GeneratedToken[];
  finishReason: FinishReason | undefined;
}

export class IndependentSearch implements DecodingStrategy {
  private readonly rows: readonly Row[];
  private readonly stopping: StoppingCriteria;
  private edits: readonly RowEdits[] = [];
  private wanted: readonly RowNeeds[] = [];
  private step = 0;

  constructor(
    private readonly params: SamplingParams,
    private readonly context: StrategyContext,
  ) {
    this.stopping = new StoppingCriteria({ ...params, ...context });
    this.rows = Array.from({ length: params.numReturnSequences }, (_, index) => ({
      index,
      history: [...context.history],
      tokens: [],
      finishReason: undefined,
    }));
  }

  running(): readonly RunningRow[] {
    const { length } = this.context.history;
    return this.stepRows().map(({ index, history }) => ({
      sequenceIndex: index,
      newTokenIds: history.slice(length),
      score: 0,
    }));
  }

  needs(): readonly RowNeeds[] {
    const { params } = this;
    const listed = !params.doSample || (params.topK > 0 && params.topK <= LONGEST_LIST);
    const count = params.doSample ? params.topK : 1;
    this.edits = this.stepRows().map((row) =>
      editsOf(params, row.history, row.tokens.length, this.context.eosTokenIds),
    );
    const scored = params.doSample || params.logprobs;
    const wanted = { count, alternatives: params.topLogprobs, allLogits: !listed, scored };
    this.wanted = this.edits.map((edits) => needsOf(edits, wanted));
    return this.wanted;
  }

  advance(scores: readonly RowScores[]): Advance {
    const nextRows: NextRow[] = [];
    const appended: TokensAppended[] = [];
    const first = this.step === 0;
    for (const [place, row] of this.unfinished().entries()) {
      const parent = first ? 0 : place;
      const token = this.choose(row, parent, scores);
      row.tokens.push(token);
      row.history.push(token.id);
      row.finishReason = this.stopping.finishReason(row.history.slice(this.context.history.length));
      appended.push({ sequenceIndex: row.index, tokenIds: [token.id] });
      if (row.finishReason === undefined) nextRows.push({ parent, tokenId: token.id });
    }
    this.step++;
    return { nextRows, appended };
  }

  sequences(): readonly GeneratedSequence[] {
    return this.rows.map(({ tokens, finishReason }) => ({
      tokens,
      score: tokens.reduce((sum, { logprob }) => sum + logprob, 0),
      finishReason: finishReason ?? 'cancelled',
    }));
  }

  private unfinished(): readonly Row[] {
    return this.rows.filter(({ finishReason }) => finishReason === undefined);
  }

  /** The first step has one row, from which every sequence takes its own first token. */
  private stepRows(): readonly Row[] {
    return this.step === 0 ? this.rows.slice(0, 1) : this.unfinished();
  }

  private choose(row: Row, place: number, scores: readonly RowScores[]): GeneratedToken {
    const [rowScores, needs, edits] = [scores[place], this.wanted[place], this.edits[place]];
    invariant(rowScores !== undefined && needs !== undefined && edits !== undefined, 'scores come for every row');
    const chosen = this.params.doSample
      ? this.sample(row, rowScores, needs, edits)
      : this.sorted(rowScores, needs, edits)[0];
    // when every token is banned, the model's own first choice stands, and the limit still ends the row
    const { id, logit } = chosen ?? { id: rowScores.topIds[0] as number, logit: rowScores.topLogits[0] as number };
    return recordToken(id, logit, rowScores, this.params.topLogprobs);
  }

  private sorted(scores: RowScores, needs: RowNeeds, edits: RowEdits): Candidate[] {
    return candidatesOf(scores, needs, edits, this.params.repetitionPenalty, (logit) => logit);
  }

  /** Inverts the cumulative distribution at the draw of this sequence and step. */
  private sample(row: Row, scores: RowScores, needs: RowNeeds, edits: RowEdits): Candidate | undefined {
    const { params } = this;
    const draw = uniform(params.seed, row.index, row.tokens.length);
    const { candidates, restWeight } =
      scores.logits !== undefined && hasReach(params)
        ? likelyCandidates(scores.logits, edits, params.repetitionPenalty, params, draw)
        : { candidates: this.sorted(scores, needs, edits), restWeight: 0 };
    const kept = warp(candidates, params, 1, restWeight);
    const isNarrowed = params.topP < 1 || params.minP > 0;
    const probabilities = probabilitiesOf(kept, isNarrowed ? 0 : restWeight);
    let rest = draw;
    for (const [index, candidate] of kept.entries()) {
      rest -= probabilities[index] as number;
      if (rest < 0) return candidate;
    }
    return kept.at(-1);
  }
}
