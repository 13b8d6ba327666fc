/** How many steps a run of the decoder makes, where it can make several: nobody joins or leaves within one. */
import type { ScheduledRequest } from './scheduled-request.ts';

/** While others are about to join: they are not held up for long. */
const AWAITED_STEPS = 8;
/** While others wait for rows: who ends early makes room, but nobody knows who does. */
const QUEUED_STEPS = 32;
/** Of a request that streams: its reader sees tokens come, first of all the first one. */
const STREAMED_STEPS = 16;
const FIRST_STREAMED_STEPS = 4;
/** Runs are not cut shorter than this for a row that ends: its last steps are wasted, but a run has costs of its own. */
const LEAST_STEPS = 8;

export interface RunLimits {
  /** Of the runner. */
  readonly most: number;
  /** What others wait for: to join, in rows that are free or while their prompts are read; or for rows. */
  readonly awaited: 'nothing' | 'joining' | 'rows';
}

/** Returns 1 at least. */
export function stepsOfRun(requests: readonly ScheduledRequest[], { most, awaited }: RunLimits): number {
  // from the one row of its first step a request's beams and samples part
  if (most === 1 || requests.some(({ paths, section }) => section === 'groups' && paths.extent === 0)) return 1;
  let steps = Math.min(most, { nothing: most, joining: AWAITED_STEPS, rows: QUEUED_STEPS }[awaited]);
  for (const { request, moments, strategy } of requests) {
    if (request.stream) {
      steps = Math.min(steps, moments.firstToken === undefined ? FIRST_STREAMED_STEPS : STREAMED_STEPS);
    }
    const made = strategy.running()[0]?.newTokenIds.length ?? 0;
    steps = Math.min(steps, Math.max(LEAST_STEPS, request.params.maxNewTokens - made));
  }
  return steps;
}
