/** Watches a server while it works: its memory, and the event loops of it and of the process that measures. */
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { ChildServer } from './child-server.ts';
import { describeDelay, type EventLoopDelay } from './event-loop-delay.ts';
import type { MemorySample } from './memory-trend.ts';

export interface ProcessDelays {
  readonly server: EventLoopDelay;
  /** Of the process that measures: when it is late itself, so are its latencies. */
  readonly client: EventLoopDelay;
}

const SAMPLE_MS = 5000;

export class ServerMonitor {
  readonly samples: MemorySample[] = [];
  private readonly histogram: IntervalHistogram = monitorEventLoopDelay({ resolution: 1 });
  private timer: NodeJS.Timeout | undefined;
  private latest: ProcessDelays | undefined;

  constructor(private readonly server: ChildServer) {
    this.histogram.enable();
  }

  /** Delays while nothing is asked of the server. Leaves all measurements as new. */
  async measureIdle(durationMs: number, signal: AbortSignal): Promise<ProcessDelays> {
    await this.restart();
    await delay(durationMs, undefined, { signal });
    return this.restart();
  }

  /** Samples until `stop`; `onSample` hears how many there were. */
  start(onSample: (count: number) => void): void {
    let count = 0;
    this.timer = setInterval(() => {
      // a server that does not answer shows in the requests; the last reading stays
      this.sample().catch(() => {});
      count++;
      onSample(count);
    }, SAMPLE_MS);
  }

  /** Takes the last sample; returns the delays since `measureIdle`, as far as the server told of them. */
  async stop(): Promise<ProcessDelays | undefined> {
    clearInterval(this.timer);
    await this.sample().catch(() => {});
    this.histogram.disable();
    return this.latest;
  }

  /** What was last seen, for a line of progress. */
  get state(): { readonly rssBytes: number; readonly eventLoopP99Ms: number } {
    return { rssBytes: this.samples.at(-1)?.bytes ?? 0, eventLoopP99Ms: this.latest?.server.p99Ms ?? 0 };
  }

  private async restart(): Promise<ProcessDelays> {
    const { eventLoopDelay } = await this.server.read({ restart: true });
    const client = describeDelay(this.histogram);
    this.histogram.reset();
    return { server: eventLoopDelay, client };
  }

  private async sample(): Promise<void> {
    const { eventLoopDelay, rssBytes } = await this.server.read({ restart: false });
    this.latest = { server: eventLoopDelay, client: describeDelay(this.histogram) };
    this.samples.push({ atMs: performance.now(), bytes: rssBytes });
  }
}
