/** `gistql bench --swap`: from the command line to the report. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { readConfig } from '../config.ts';
import { openServices } from '../services.ts';
import { readWhole } from './read-number.ts';
import { measureSwaps, type SwapResult } from './swap.ts';
import { formatSwapReport } from './swap-report.ts';

/** As written on the command line. */
export interface SwapArguments {
  readonly rounds: string;
  readonly seed: string;
  /** Undefined: the settings'. */
  readonly modelSource: string | undefined;
  readonly adaptersFolder: string | undefined;
}

const MOST_ROUNDS = 1_000_000;
const LARGEST_SEED = 2 ** 31 - 1;
/** Alone, and in a batch that is running. */
const BESIDE = [0, 4];

/** Prints the result on stdout. Ctrl-C ends the measuring early. */
export async function runSwapCommand(written: SwapArguments): Promise<void> {
  const ending = new AbortController();
  const end = (): void => ending.abort();
  // a second signal does not wait
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, end);
  try {
    console.log(formatSwapReport(await run(written, ending.signal)));
  } finally {
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.off(name, end);
  }
}

async function run(
  { rounds, seed, modelSource, adaptersFolder }: SwapArguments,
  signal: AbortSignal,
): Promise<SwapResult> {
  const roundCount = readWhole('--rounds', rounds, { low: 1, high: MOST_ROUNDS });
  const seedNumber = readWhole('--seed', seed, { low: 0, high: LARGEST_SEED });
  // of its own: what is registered for the measurement is no business of a server's
  const dataDir = await mkdtemp(join(tmpdir(), 'gistql-swap-'));
  try {
    const config = readConfig({
      GISTQL_LOG_LEVEL: 'warn',
      ...process.env,
      GISTQL_DATA_DIR: dataDir,
      ...(modelSource === undefined ? {} : { GISTQL_MODEL: modelSource }),
      ...(adaptersFolder === undefined ? {} : { GISTQL_ADAPTERS_DIR: adaptersFolder }),
    });
    const log = pino({ level: config.logLevel }, pino.destination({ dest: 2, sync: true }));
    const stopping = new AbortController();
    const { services, close } = await openServices(config, { log, hooks: {}, stopping: stopping.signal });
    try {
      return await measureSwaps({
        config,
        services,
        roundCount,
        beside: BESIDE,
        seed: seedNumber,
        signal,
        onProgress: (line) => console.error(line),
      });
    } finally {
      stopping.abort();
      await close();
    }
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
}
