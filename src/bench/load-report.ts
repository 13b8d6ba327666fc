/** The result of a sustained load as Markdown. */
import { MEBIBYTE } from '../storage/byte-size.ts';
import { OUTCOMES } from './check-reply.ts';
import type { EventLoopDelay } from './event-loop-delay.ts';
import { type LatencySummary, summarizeLatencies } from './latency-summary.ts';
import type { LoadAccount, Problem } from './load-account.ts';
import { operationOf } from './load-documents.ts';
import type { LoadWindow } from './load-run.ts';
import { factTable, numberTable } from './markdown-table.ts';
import type { MemoryTrend } from './memory-trend.ts';
import type { ProcessDelays } from './server-monitor.ts';

export interface LoadResult {
  readonly facts: Readonly<Record<string, string>>;
  readonly account: LoadAccount;
  readonly window: LoadWindow;
  readonly idleDelays: ProcessDelays;
  /** Undefined when the server ended before it told of them. */
  readonly loadDelays: ProcessDelays | undefined;
  readonly memory: MemoryTrend | undefined;
  /** What went wrong with the server itself; undefined when nothing did. */
  readonly serverProblem: string | undefined;
}

function latencyCells(summary: LatencySummary | undefined): readonly string[] {
  if (summary === undefined) return ['', '', ''];
  return [summary.p50Ms, summary.p95Ms, summary.p99Ms].map((value) => value.toFixed(0));
}

const REQUEST_HEADER = [
  'requests',
  'sent',
  ...OUTCOMES,
  'p50 ms',
  'p95 ms',
  'p99 ms',
  'first delta p50 ms',
  'p95 ms',
  'p99 ms',
];

function requestTable({ kinds }: LoadAccount): string {
  const rows = [...kinds].map(([kind, { sent, outcomes, latenciesMs, firstEventsMs }]) => {
    const latencies = [latenciesMs, firstEventsMs].flatMap((values) => latencyCells(summarizeLatencies(values)));
    return [kind, sent, ...OUTCOMES.map((outcome) => outcomes[outcome]), ...latencies];
  });
  return numberTable(REQUEST_HEADER, rows);
}

function delayTable(idle: ProcessDelays, load: ProcessDelays | undefined): string {
  const row = (name: string, delay: EventLoopDelay | undefined) => {
    if (delay === undefined) return [name, '', '', ''];
    return [name, ...[delay.p50Ms, delay.p99Ms, delay.maxMs].map((value) => value.toFixed(2))];
  };
  return numberTable(
    ['event-loop delay', 'p50 ms', 'p99 ms', 'max ms'],
    [
      row('server, idle', idle.server),
      row('server, under load', load?.server),
      row('client, idle', idle.client),
      row('client, under load', load?.client),
    ],
  );
}

function mebibytes(bytes: number): string {
  return (bytes / MEBIBYTE).toFixed(1);
}

function memoryTable({ partMs, firstMeanBytes, lastMeanBytes, bytesPerMinute }: MemoryTrend): string {
  const part = `${(partMs / 1000).toFixed(0)} s`;
  return numberTable(
    ['server memory (RSS)', 'MiB'],
    [
      [`first ${part}, mean`, mebibytes(firstMeanBytes)],
      [`last ${part}, mean`, mebibytes(lastMeanBytes)],
      [`slope after the first ${part}, a minute`, mebibytes(bytesPerMinute)],
    ],
  );
}

function totals({ account, window }: LoadResult): readonly (readonly [string, string])[] {
  const seconds = window.durationMs / 1000;
  return [
    ['requests/s, ended as expected', (window.requestCount / seconds).toFixed(2)],
    ['new tokens/s, of answered requests', (window.newTokens / seconds).toFixed(1)],
    ['repeated, equal tokens', `${account.repeatCount - account.unequalCount} of ${account.repeatCount}`],
  ];
}

/** Whether every request was accounted for, and nothing was wrong or lost. */
export function isClean({ account, serverProblem }: LoadResult): boolean {
  const bad = account.count('wrong') + account.count('lost') + account.openCount;
  return bad === 0 && serverProblem === undefined;
}

export function formatReport(result: LoadResult): string {
  const { account, idleDelays, loadDelays, memory } = result;
  const parts = [
    factTable('load', [...Object.entries(result.facts), ...totals(result)]),
    requestTable(account),
    delayTable(idleDelays, loadDelays),
    ...(memory === undefined ? [] : [memoryTable(memory)]),
  ];
  return parts.join('\n\n');
}

function formatProblem({ request, text }: Problem): string {
  return `request ${request.index} (${request.kind}): ${text}\n  ${JSON.stringify(operationOf(request))}`;
}

/** What went wrong, with the requests to send again. */
export function formatProblems({ account, serverProblem }: LoadResult): string {
  const [wrong, lost, open] = [account.count('wrong'), account.count('lost'), account.openCount];
  const lines = [`${wrong} wrong, ${lost} lost, ${open} without an outcome.`, ...account.problems.map(formatProblem)];
  return [...lines, ...(serverProblem === undefined ? [] : [serverProblem])].join('\n');
}
