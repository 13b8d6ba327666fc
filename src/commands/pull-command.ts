/** `gistql pull`: fetches what a source of the hub names, and says where it is. */
import { readConfig } from '../config.ts';
import { systemClock } from '../runtime/engine/clock.ts';
import type { HubSnapshot } from '../storage/hub/hub-snapshot.ts';
import { type HubKind, withArticle } from '../storage/hub/hub-source.ts';
import { HubStore } from '../storage/hub/hub-store.ts';
import { CANCELLED, LEFT } from './exit-codes.ts';
import { Interruption } from './interruption.ts';
import { ProgressDisplay } from './progress-display.ts';
import { PULL_USAGE, type PullArguments, readPullArguments } from './pull-arguments.ts';
import { pullViews } from './pull-progress.ts';

/** Prints the result on stdout and how it goes on stderr. Rejects with what stands in the way. */
export async function runPullCommand(written: readonly string[]): Promise<void> {
  const asked = readPullArguments(written);
  if (asked === undefined) return console.log(PULL_USAGE);
  const store = new HubStore(readConfig(process.env).hub, { clock: systemClock });
  const interruption = new Interruption();
  try {
    process.exitCode = await pull(asked, store, interruption);
  } finally {
    interruption.end();
  }
}

/** Returns the exit code. */
async function pull(
  { source, kind, json }: PullArguments,
  store: HubStore,
  interruption: Interruption,
): Promise<number> {
  const display = new ProgressDisplay(process.stderr, () => performance.now(), pullViews);
  const begun = performance.now();
  const signal = AbortSignal.any([interruption.cancelling, interruption.leaving]);
  try {
    const snapshot = await store.resolve(kind, source, {
      signal,
      onProgress: (progress) => display.show({ ...progress, elapsedMs: performance.now() - begun }),
      onNotice: (notice) => display.say(notice),
    });
    display.clear();
    console.log(json ? JSON.stringify(snapshot) : report(snapshot));
    return 0;
  } catch (error) {
    if (!signal.aborted) throw error;
    display.say('Stopped. What has come is kept: the same command goes on there.');
    return interruption.cancelling.aborted ? CANCELLED : LEFT;
  }
}

const USES: Readonly<Record<HubKind, (source: string) => string>> = {
  model: (source) =>
    `Serve it with GISTQL_MODEL=${source}, or load it: loadModel(input: { id: …, source: "${source}" })`,
  adapter: (source) => `Load it: loadAdapter(input: { id: …, model: …, source: "${source}" })`,
  dataset: (source) => `Name it as a dataset: "${source}"`,
};

function report({ kind, source, folder, files }: HubSnapshot): string {
  const count = `${files.length} ${files.length === 1 ? 'file' : 'files'}`;
  return [`${source}: ${count} of ${withArticle(kind)}`, folder, USES[kind](source)].join('\n');
}
