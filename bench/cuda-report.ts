/** What cuda.bench.ts measured, as Markdown. */
import { numberTable } from '../src/bench/markdown-table.ts';
import { REFERENCE, type SystemKind } from './cuda-systems.ts';
import { median, rangeOf } from './rounds.ts';
import type { StepBytes } from './step-bytes.ts';

/** One system with one batch: all its rounds but the warm-up. */
export interface SystemRounds {
  readonly system: Pick<SystemKind, 'label' | 'isOurs' | 'peers'>;
  readonly seconds: readonly number[];
  readonly firstTokenSeconds: readonly number[];
  /** Of rows, the warm-up's included, with the tokens of the reference; undefined: there is nothing to compare. */
  readonly equalShare: number | undefined;
  readonly bytes: StepBytes;
  /** Why its numbers do not count, or are not there. */
  readonly trouble: string | undefined;
}

export interface BatchResult {
  readonly rows: number;
  readonly newTokens: number;
  readonly systems: readonly SystemRounds[];
}

/** Rows and tokens a second that are published of TensorRT-LLM. */
const PUBLISHED = [
  [32, '3,312'],
  [64, '4,184'],
  [128, '4,768'],
] as const;

/** `memoryRate`: bytes a second of a copy, read and written. */
export function speedTable(results: readonly BatchResult[], memoryRate: number): string {
  const header = [
    'rows',
    'system',
    'tokens/s',
    'first token, ms',
    `rows as ${REFERENCE}`,
    'read a step, MB',
    "of the memory's rate",
    'remark',
  ];
  const rows = results.flatMap(({ rows: count, newTokens, systems }) =>
    systems.map(({ system, seconds, firstTokenSeconds, equalShare, bytes, trouble = '' }) => {
      const start = [count, system.label];
      const read = (bytes.total / 1e6).toFixed(1);
      if (seconds.length === 0) return [...start, '', '', '', read, '', trouble];
      const [whole, first] = [median(seconds), median(firstTokenSeconds)];
      const equal = equalShare === undefined ? '' : percent(equalShare);
      const share = ((newTokens / whole) * bytes.total) / memoryRate;
      const speed = ((count * newTokens) / whole).toFixed(1);
      return [...start, speed, (1000 * first).toFixed(1), equal, read, percent(share), trouble];
    }),
  );
  return numberTable(header, rows);
}

/** Ours to each peer, round by round: above 1 ours is faster, or earlier. */
export function ratioTable(results: readonly BatchResult[]): string {
  const header = ['rows', 'ours', 'peer', 'tokens/s, ratio', 'over rounds', 'first token, ratio', 'over rounds'];
  const rows = results.flatMap(({ rows: count, systems }) => {
    const counted = systems.filter(({ trouble, seconds }) => trouble === undefined && seconds.length > 0);
    return counted.flatMap((mine) =>
      counted
        .filter(({ system }) => mine.system.peers.includes(system.label))
        .map((peer) => {
          const pairs = [ratios(mine.seconds, peer.seconds), ratios(mine.firstTokenSeconds, peer.firstTokenSeconds)];
          const cells = pairs.flatMap((pair) => [median(pair).toFixed(2), rangeOf(pair)]);
          return [count, mine.system.label, peer.system.label, ...cells];
        }),
    );
  });
  return numberTable(header, rows);
}

export function publishedTable(): string {
  const words =
    'Published by others, another model, not measured here: TensorRT-LLM with FLAN-T5-XL on one H100, a mark to look at.';
  return `${words}\n\n${numberTable(['rows', 'tokens/s'], PUBLISHED)}`;
}

function ratios(mine: readonly number[], theirs: readonly number[]): readonly number[] {
  return mine.map((seconds, round) => (theirs[round] ?? Number.NaN) / seconds);
}

function percent(share: number): string {
  return Number.isNaN(share) ? '' : `${(100 * share).toFixed(0)} %`;
}
