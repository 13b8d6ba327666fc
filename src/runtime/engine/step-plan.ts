/** What one step of the model will do: which rows run, in which order, and what is read of their logits. */
import type { RowNeeds } from '../decoding/decoding-strategy.ts';
import type { ScheduledRequest } from './scheduled-request.ts';

export interface StepPlan {
  readonly number: number;
  /** In order of their slots; one row each. */
  readonly singles: readonly ScheduledRequest[];
  /** In order of their slots; their rows follow those of the singles, request by request. */
  readonly groups: readonly ScheduledRequest[];
  readonly rowCount: number;
  /** Steps that the run may make, as far as its guesses go. */
  readonly stepCount: number;
  /** Of the first step, by row. */
  readonly needs: readonly RowNeeds[];
}

/** A plan as data, for traces and tests: who shared the step. */
export interface StepTrace {
  readonly number: number;
  readonly rows: readonly { readonly requestId: string; readonly rowCount: number }[];
}

export function planStep({ singles, groups, ...plan }: Omit<StepPlan, 'rowCount' | 'needs'>): StepPlan {
  const needs = [...singles, ...groups].flatMap((request) => [...request.strategy.needs()]);
  return { ...plan, singles, groups, rowCount: needs.length, needs };
}

export function traceOf(plan: StepPlan): StepTrace {
  const rows = [...plan.singles, ...plan.groups].map(({ request, paths }) => ({
    requestId: request.id,
    rowCount: paths.rowCount,
  }));
  return { number: plan.number, rows };
}
