/** What a step would report of a row of logits: for tests of decoding without a model. */
import type { RowNeeds, RowScores } from '../../src/runtime/decoding/decoding-strategy.ts';

export function scoresOf(logits: Float32Array, needs: RowNeeds): RowScores {
  const order = [...logits.keys()].sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b);
  const topIds = order.slice(0, needs.topCount);
  return {
    logSumExp: Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0)),
    topIds,
    topLogits: topIds.map((id) => logits[id] as number),
    askedLogits: needs.askedIds.map((id) => logits[id] as number),
    logits: needs.allLogits ? logits : undefined,
  };
}
