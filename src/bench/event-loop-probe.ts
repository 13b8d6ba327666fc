/**
 * Brought into a server's process by `--import`: measures its main thread and answers over the channel to the parent.
 * The server knows nothing of it. Threads import what their process does: only the main one is measured.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';
import { describeDelay, type EventLoopDelay } from './event-loop-delay.ts';
import { TurnProbe } from './turn-probe.ts';

export interface ProbeQuestion {
  readonly id: number;
  /** Whether the measurement of the event loop begins anew after this reading. */
  readonly restart: boolean;
}

export interface ProbeReading {
  readonly id: number;
  /** Since the beginning, or the last restart. */
  readonly eventLoopDelay: EventLoopDelay;
  /** Processor time of the longest turn since the last reading; absent where the system does not tell. */
  readonly longestTurnMs?: number;
  readonly rssBytes: number;
}

if (isMainThread && process.send !== undefined) {
  const histogram = monitorEventLoopDelay({ resolution: 1 });
  const turns = TurnProbe.start();
  histogram.enable();
  process.on('message', ({ id, restart }: ProbeQuestion) => {
    const reading: ProbeReading = {
      id,
      eventLoopDelay: describeDelay(histogram),
      ...(turns === undefined ? {} : { longestTurnMs: turns.takeLongestMs() }),
      rssBytes: process.memoryUsage.rss(),
    };
    if (restart) histogram.reset();
    process.send?.(reading);
  });
  // whoever measured is gone: nobody else would end this process
  process.on('disconnect', () => process.exit(1));
  process.channel?.unref();
}
