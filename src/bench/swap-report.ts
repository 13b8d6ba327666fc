/** What swaps cost as Markdown. */
import { summarizeLatencies } from './latency-summary.ts';
import { factTable, numberTable } from './markdown-table.ts';
import type { SwapResult, SwapTimes } from './swap.ts';

/** Standard deviations of 95 % of a normal distribution. */
const Z = 1.96;

/** Where the median of all there could be lies, with 95 % confidence: values by the ranks of the binomial distribution. */
function medianInterval(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  const spread = (Z * Math.sqrt(sorted.length)) / 2;
  const at = (rank: number): string => (sorted[Math.min(Math.max(rank, 0), sorted.length - 1)] ?? 0).toFixed(2);
  return `${at(Math.floor(sorted.length / 2 - spread) - 1)} to ${at(Math.ceil(sorted.length / 2 + spread))}`;
}

function row(name: string, values: readonly number[]): readonly string[] {
  const summary = summarizeLatencies(values);
  if (summary === undefined) return [name, '', '', ''];
  return [name, summary.p50Ms.toFixed(2), medianInterval(values), summary.p95Ms.toFixed(2)];
}

function differences(values: readonly number[], from: readonly number[]): readonly number[] {
  return values.map((value, index) => value - (from[index] ?? Number.NaN));
}

function timeTable(besideCount: number, { stay, again, back, swap, activate }: SwapTimes): string {
  const title = besideCount === 0 ? 'nothing else running' : `beside ${besideCount} running requests`;
  return numberTable(
    [`${title}, ${swap.length} swaps`, 'p50 ms', '95 % of p50', 'p95 ms'],
    [
      row('first token, no swap before it', stay),
      row('first token, right after a swap', swap),
      row('first token, after a swap there and back', back),
      row('later by, round by round: after a swap', differences(swap, stay)),
      row('later by: after a swap there and back', differences(back, stay)),
      row('later by: without a swap once more', differences(again, stay)),
      row('activateAdapter itself', activate),
    ],
  );
}

function stepTable({ besideCount, largest, times }: SwapResult['steps']): string {
  const row = (name: string, values: readonly number[]): readonly string[] => {
    const summary = summarizeLatencies(values);
    if (summary === undefined) return [name, '0', '', '', ''];
    const numbers = [summary.p50Ms, summary.p95Ms, Math.max(...values)].map((value) => value.toFixed(2));
    return [name, String(values.length), ...numbers];
  };
  return numberTable(
    [`steps of ${besideCount} running requests, in ms`, 'steps', 'p50', 'p95', 'greatest'],
    [
      row('nothing comes', times.alone),
      row('a request of an adapter in memory joins', times.joining),
      row(`an adapter is loaded (${largest})`, times.loading),
      row('the first request of that one joins', times.arriving),
    ],
  );
}

export function formatSwapReport({ facts, settings, steps }: SwapResult): string {
  const tables = settings.map(({ besideCount, times }) => timeTable(besideCount, times));
  return [factTable('swap', Object.entries(facts)), ...tables, stepTable(steps)].join('\n\n');
}
