/** The rows of a run of a decode loop: what their requests ask for, as the graph is fed it. */
import type { RowNeeds, RunningRow } from '../decoding/decoding-strategy.ts';
import type { SamplingParams } from '../decoding/sampling-params.ts';
import type { ScheduledRequest } from '../engine/scheduled-request.ts';
import type { StepPlan } from '../engine/step-plan.ts';

export interface LoopRow {
  readonly request: ScheduledRequest;
  /** Of its request's rows. */
  readonly index: number;
  readonly params: SamplingParams;
  readonly needs: RowNeeds;
  readonly running: RunningRow;
  /** Ids so far, the prompt or a decoder's start token included. */
  readonly history: readonly number[];
  /** Whether it is one of several beams: the single row of a first step is not. */
  readonly isBeam: boolean;
}

/** A product of a single row rounds differently from one of several: a row that is alone is there twice. */
const LEAST_ROWS = 2;

/** By row of the plan, then rows that pad the run. `historyOf`: ids before the first new one. */
export function loopRows(
  plan: StepPlan,
  historyOf: (promptTokenIds: readonly number[]) => readonly number[],
): readonly LoopRow[] {
  const requests = [...plan.singles, ...plan.groups];
  const rows = requests.flatMap((request) => {
    const { params, promptTokenIds } = request.request;
    const before = historyOf(promptTokenIds);
    const running = request.strategy.running();
    const isBeam = params.numBeams > 1 && request.paths.extent > 0;
    return running.map((row, index) => ({
      request,
      index,
      params,
      running: row,
      history: [...before, ...row.newTokenIds],
      isBeam,
    }));
  });
  const all = rows.map((row, place) => ({ ...row, needs: plan.needs[place] as RowNeeds }));
  const [first] = all;
  while (first !== undefined && all.length < LEAST_ROWS) all.push(first);
  return all;
}

/** New tokens of a row. */
export function madeBy({ running }: LoopRow): number {
  return running.newTokenIds.length;
}

/** Whether the history of a row changes its scores. */
export function readsHistory({ params }: LoopRow): boolean {
  return params.repetitionPenalty !== 1 || params.noRepeatNgramSize > 0;
}
