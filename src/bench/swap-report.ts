/** What swaps cost as Markdown. */
import { summarizeLatencies } from './latency-summary.ts';
import { factTable, numberTable } from './markdown-table.ts';
import type { SwapResult, SwapTimes } from './swap.ts';

function row(name: string, values: readonly number[]): readonly string[] {
  const summary = summarizeLatencies(values);
  const cells = summary === undefined ? ['', ''] : [summary.p50Ms, summary.p95Ms].map((value) => value.toFixed(2));
  return [name, ...cells];
}

function differences(values: readonly number[], from: readonly number[]): readonly number[] {
  return values.map((value, index) => value - (from[index] ?? Number.NaN));
}

function timeTable(besideCount: number, { stay, again, swap, activate }: SwapTimes): string {
  const title = besideCount === 0 ? 'nothing else running' : `beside ${besideCount} running requests`;
  return numberTable(
    [`${title}, ${swap.length} swaps`, 'p50 ms', 'p95 ms'],
    [
      row('first token, no swap before it', stay),
      row('first token, right after a swap', swap),
      row('after a swap - without, round by round', differences(swap, stay)),
      row('without - without, round by round', differences(again, stay)),
      row('activateAdapter itself', activate),
    ],
  );
}

export function formatSwapReport({ facts, settings }: SwapResult): string {
  const tables = settings.map(({ besideCount, times }) => timeTable(besideCount, times));
  return [factTable('swap', Object.entries(facts)), ...tables].join('\n\n');
}
