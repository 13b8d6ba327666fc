/**
 * Beam search as transformers 5 does it: the best continuations of all running beams are taken together; those that
 * end go to a pool of finished hypotheses, scored by length-penalised log-probability; the best others run on.
 */
import { invariant } from '../errors.ts';
import type {
  Advance,
  DecodingStrategy,
  GeneratedSequence,
  GeneratedToken,
  RowNeeds,
  RowScores,
  RunningRow,
  TokensAppended,
} from './decoding-strategy.ts';
import { editsOf, type RowEdits } from './logits-processors.ts';
import { candidatesOf, needsOf } from './row-candidates.ts';
import type { SamplingParams } from './sampling-params.ts';
import { type FinishReason, StoppingCriteria } from './stopping-criteria.ts';
import { recordToken, type StrategyContext } from './strategy-context.ts';

interface Beam {
  readonly tokens: readonly GeneratedToken[];
  readonly ids: readonly number[];
  /** Sum of processed log-probabilities. */
  readonly score: number;
}

interface Hypothesis extends Beam {
  readonly finishReason: FinishReason;
}

/** A continuation of a running beam that is among the best of this step. */
interface Continuation extends Beam {
  readonly parent: number;
  readonly finishReason: FinishReason | undefined;
}

export class BeamSearch implements DecodingStrategy {
  private beams: readonly Beam[] = [{ tokens: [], ids: [], score: 0 }];
  /** Best first; its scores are length-penalised. */
  private finished: readonly Hypothesis[] = [];
  private canImprove = true;
  private ended = false;
  private emittedCount = 0;
  private edits: readonly RowEdits[] = [];
  private wanted: readonly RowNeeds[] = [];
  private readonly stopping: StoppingCriteria;
  /** Continuations looked at in a step: enough that `numBeams` run on even if all others end. */
  private readonly keptCount: number;

  constructor(
    private readonly params: SamplingParams,
    private readonly context: StrategyContext,
  ) {
    this.stopping = new StoppingCriteria({ ...params, ...context });
    this.keptCount = Math.max(2, 1 + context.eosTokenIds.length) * params.numBeams;
  }

  running(): readonly RunningRow[] {
    return this.beams.map(({ ids, score }) => ({ sequenceIndex: 0, newTokenIds: ids, score }));
  }

  needs(): readonly RowNeeds[] {
    const { params, context } = this;
    this.edits = this.beams.map(({ ids }) =>
      editsOf(params, [...context.history, ...ids], ids.length, context.eosTokenIds),
    );
    const wanted = { count: this.keptCount, alternatives: params.topLogprobs, allLogits: false, scored: true };
    this.wanted = this.edits.map((edits) => needsOf(edits, wanted));
    return this.wanted;
  }

  advance(scores: readonly RowScores[]): Advance {
    const best = this.continuations(scores);
    const { numBeams } = this.params;
    const running = best.filter(({ finishReason }) => finishReason === undefined).slice(0, numBeams);
    this.collect(best.slice(0, numBeams));
    this.beams = running;
    const length = running[0]?.ids.length ?? 0;
    this.canImprove = running.length > 0 && this.canImprove && this.improvementPossible(running, length);
    const full = this.finished.length === numBeams && this.params.earlyStopping === 'when-beams-finish';
    this.ended = running.length === 0 || !this.canImprove || full;
    const nextRows = this.ended
      ? []
      : running.map(({ parent, ids }) => ({ parent, tokenId: ids[ids.length - 1] as number }));
    return { nextRows, appended: this.ended ? this.emitRest() : this.emitCertain() };
  }

  sequences(): readonly GeneratedSequence[] {
    if (this.ended) {
      return this.finished
        .slice(0, this.params.numReturnSequences)
        .map(({ tokens, score, finishReason }) => ({ tokens, score, finishReason }));
    }
    return this.beams.slice(0, this.params.numReturnSequences).map(({ tokens, ids, score }) => ({
      tokens,
      score: this.penalized(score, Math.max(1, ids.length)),
      finishReason: 'cancelled' as const,
    }));
  }

  /** The best continuations of all running beams together, best first. */
  private continuations(scores: readonly RowScores[]): readonly Continuation[] {
    const all = this.beams.flatMap((beam, row) => {
      const [rowScores, needs, edits] = [scores[row], this.wanted[row], this.edits[row]];
      invariant(rowScores !== undefined && needs !== undefined && edits !== undefined, 'scores come for every beam');
      const toLogprob = (logit: number): number => logit - rowScores.logSumExp;
      return candidatesOf(rowScores, needs, edits, this.params.repetitionPenalty, toLogprob)
        .slice(0, this.keptCount)
        .map(({ id, logit, score }) => ({ id, logit, row, rowScores, total: beam.score + score }));
    });
    all.sort((a, b) => b.total - a.total || a.row - b.row || a.id - b.id);
    return all.slice(0, this.keptCount).map(({ id, logit, row, rowScores, total }) => {
      const beam = this.beams[row] as Beam;
      const ids = [...beam.ids, id];
      const tokens = [...beam.tokens, recordToken(id, logit, rowScores, this.params.topLogprobs)];
      return { parent: row, ids, tokens, score: total, finishReason: this.stopping.finishReason(ids) };
    });
  }

  /** Puts the continuations that end into the pool; only the best `numBeams` of a step and of the pool count. */
  private collect(best: readonly Continuation[]): void {
    const { numBeams, earlyStopping } = this.params;
    if (!this.canImprove) return;
    if (this.finished.length === numBeams && earlyStopping === 'when-beams-finish') return;
    const ended = best.flatMap(({ tokens, ids, score, finishReason }) =>
      finishReason === undefined ? [] : [{ tokens, ids, score: this.penalized(score, ids.length), finishReason }],
    );
    if (ended.length === 0) return;
    this.finished = [...this.finished, ...ended].sort((a, b) => b.score - a.score).slice(0, numBeams);
  }

  /** Whether a running beam may still beat the worst of a full pool. */
  private improvementPossible(running: readonly Beam[], length: number): boolean {
    const { numBeams, earlyStopping, lengthPenalty, maxNewTokens } = this.params;
    if (this.finished.length < numBeams) return true;
    const hopedLength = earlyStopping === 'never' && lengthPenalty > 0 ? maxNewTokens : length;
    const best = this.penalized(running[0]?.score ?? Number.NEGATIVE_INFINITY, hopedLength);
    return best > (this.finished.at(-1)?.score ?? Number.NEGATIVE_INFINITY);
  }

  private penalized(score: number, length: number): number {
    return score / length ** this.params.lengthPenalty;
  }

  /** What all running beams and all finished hypotheses begin with can no longer change. */
  private emitCertain(): readonly TokensAppended[] {
    const [first, ...others] = [...this.beams, ...this.finished];
    let count = first?.ids.length ?? 0;
    for (const { ids } of others) {
      let same = 0;
      while (same < count && ids[same] === first?.ids[same]) same++;
      count = same;
    }
    if (first === undefined || count <= this.emittedCount) return [];
    const tokenIds = first.ids.slice(this.emittedCount, count);
    this.emittedCount = count;
    return Array.from({ length: this.params.numReturnSequences }, (_, sequenceIndex) => ({ sequenceIndex, tokenIds }));
  }

  private emitRest(): readonly TokensAppended[] {
    return this.finished
      .slice(0, this.params.numReturnSequences)
      .map(({ ids }, sequenceIndex) => ({ sequenceIndex, tokenIds: ids.slice(this.emittedCount) }))
      .filter(({ tokenIds }) => tokenIds.length > 0);
  }
}
