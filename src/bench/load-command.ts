/** `gistql bench --load`: the load from the command line to its exit code. */
import { runLoad } from './load.ts';
import { formatProblems, formatReport, isClean } from './load-report.ts';
import { readNumber, readWhole } from './read-number.ts';

/** As written on the command line. */
export interface LoadArguments {
  readonly minutes: string;
  readonly inFlight: string;
  readonly seed: string;
  readonly modelSource: string | undefined;
}

const MINUTE_MS = 60_000;
const IDLE_MS = 5000;
const MOST_MINUTES = 7 * 24 * 60;
const MOST_IN_FLIGHT = 1000;
const LARGEST_SEED = 2 ** 31 - 1;

/** Prints the result on stdout, and what went wrong on stderr; then the exit code is 1. Ctrl-C ends the load early. */
export async function runLoadCommand({ minutes, inFlight, seed, modelSource }: LoadArguments): Promise<void> {
  const ending = new AbortController();
  const options = {
    modelSource,
    durationMs: readNumber('--minutes', minutes, { low: 0.01, high: MOST_MINUTES }) * MINUTE_MS,
    inFlight: readWhole('--in-flight', inFlight, { low: 1, high: MOST_IN_FLIGHT }),
    seed: readWhole('--seed', seed, { low: 0, high: LARGEST_SEED }),
    idleMs: IDLE_MS,
    signal: ending.signal,
    onProgress: (line: string) => console.error(line),
  };
  // a second signal does not wait
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => ending.abort());
  const result = await runLoad(options);
  console.log(formatReport(result));
  if (isClean(result)) return;
  console.error(formatProblems(result));
  process.exitCode = 1;
}
