/**
 * A sustained load on the real server: exactly so many requests in flight, of every kind, for so long. What is asked
 * is that each one is answered, refused or cancelled as it should be, and that the server neither grows nor stalls.
 */
import { MEBIBYTE } from '../storage/byte-size.ts';
import { ChildServer } from './child-server.ts';
import { LoadClient } from './load-client.ts';
import { defaultModel, machineFacts } from './load-facts.ts';
import { RequestMix } from './load-mix.ts';
import type { LoadResult } from './load-report.ts';
import { LoadRun } from './load-run.ts';
import { memoryTrend } from './memory-trend.ts';
import { ServerMonitor } from './server-monitor.ts';

export interface LoadOptions {
  /** Source of the model. Undefined: the server's own default. */
  readonly modelSource: string | undefined;
  /** How long requests are sent; longer where it takes longer to send one of every kind. */
  readonly durationMs: number;
  readonly inFlight: number;
  readonly seed: number;
  /** How long the idle server is measured before the load. */
  readonly idleMs: number;
  /** Ends the load early; what was measured until then is the result. */
  readonly signal: AbortSignal;
  /** Told how it goes, a line at a time. */
  readonly onProgress: (line: string) => void;
}

const SAMPLES_PER_LINE = 6;

/** Starts a server, loads it, and stops it. Rejects when there is nothing to report. */
export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const server = await ChildServer.start(options.modelSource, options.signal);
  const client = new LoadClient(server.url, options.inFlight);
  const monitor = new ServerMonitor(server);
  try {
    const measured = await measure(options, { server, client, monitor });
    await client.close();
    return { ...measured, serverProblem: await server.stop() };
  } finally {
    await monitor.stop();
    await client.close();
    await server.stop();
  }
}

interface Parts {
  readonly server: ChildServer;
  readonly client: LoadClient;
  readonly monitor: ServerMonitor;
}

async function measure(
  { durationMs, inFlight, seed, idleMs, signal, onProgress }: LoadOptions,
  { server, client, monitor }: Parts,
): Promise<Omit<LoadResult, 'serverProblem'>> {
  const { id, source, precision, parameterCount, maxInputTokens } = await defaultModel(client);
  onProgress(`${id} at ${server.url}, idle for ${idleMs / 1000} s first`);
  const idleDelays = await monitor.measureIdle(idleMs, signal);
  const gone = new AbortController();
  void server.exited.then(() => gone.abort());
  const mix = new RequestMix({ seed, maxInputTokens });
  const run = new LoadRun({ mix, client, durationMs, inFlight, signal: AbortSignal.any([signal, gone.signal]) });
  monitor.start((count) => {
    if (count % SAMPLES_PER_LINE === 0) onProgress(progressLine(run, monitor));
  });
  const sent = run.send();
  const window = await run.window;
  const loadDelays = await monitor.stop();
  onProgress(`waiting for the last ${run.account.openCount} replies`);
  await sent;
  return {
    facts: {
      ...machineFacts(),
      model: `${id} (${source}, ${(parameterCount / 1e6).toFixed(1)} M parameters)`,
      precision,
      seed: String(seed),
      'in flight': String(inFlight),
      'duration s': (window.durationMs / 1000).toFixed(1),
    },
    account: run.account,
    window,
    idleDelays,
    loadDelays,
    memory: memoryTrend(monitor.samples),
  };
}

function progressLine(run: LoadRun, { state }: ServerMonitor): string {
  const { durationMs, requestCount, newTokens } = run.soFar();
  const seconds = durationMs / 1000;
  return [
    `${(seconds / 60).toFixed(1)} min: ${requestCount} requests`,
    `${(requestCount / seconds).toFixed(1)}/s`,
    `${(newTokens / seconds).toFixed(0)} new tokens/s`,
    `RSS ${(state.rssBytes / MEBIBYTE).toFixed(0)} MiB`,
    `event loop p99 ${state.eventLoopP99Ms.toFixed(1)} ms`,
    `${run.account.openCount} in flight`,
    `${run.account.count('wrong')} wrong`,
    `${run.account.count('lost')} lost`,
  ].join(', ');
}
