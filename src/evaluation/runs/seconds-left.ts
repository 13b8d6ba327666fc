import type { StoredEvaluation } from '../../storage/evaluation-rows.ts';

/**
 * Estimates what is left of a run, in seconds, at the pace since a process took it up last: what came before may be long
 * ago. Null unless it runs and has scored a sample since.
 */
export function secondsLeft({
  status,
  secondsAtWork,
  samplesAtStart,
  samplesDone,
  samplesTotal,
}: StoredEvaluation): number | null {
  const scored = samplesDone - samplesAtStart;
  if (status !== 'running' || secondsAtWork === null || scored <= 0) return null;
  return (secondsAtWork * (samplesTotal - samplesDone)) / scored;
}
