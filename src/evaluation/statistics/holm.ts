/**
 * Returns p-values adjusted for being several (Holm 1979, https://www.jstor.org/stable/4615733): the i-th smallest of m
 * (from 0) times m - i, at most 1, and none below one that was smaller. Rejecting those ≤ α makes a false rejection
 * among all of them no more likely than α, however the tests depend on each other.
 */
export function holmAdjusted(pValues: readonly number[]): readonly number[] {
  const adjusted = new Array<number>(pValues.length).fill(1);
  const ascending = [...pValues.entries()].sort(([, one], [, other]) => one - other);
  let highest = 0;
  for (const [rank, [index, pValue]] of ascending.entries()) {
    highest = Math.max(highest, Math.min(1, (pValues.length - rank) * pValue));
    adjusted[index] = highest;
  }
  return adjusted;
}
