/** `gistql evaluate`: one run over the services that the server has, from the command line to its exit code. */
import { createWriteStream } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import { dirname, extname } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { EvaluationSummary } from '../evaluation/runs/evaluation-summaries.ts';
import type { Evaluations } from '../evaluation/runs/evaluations.ts';
import { findExportFormat } from '../evaluation/sample-export.ts';
import { cursorOf } from '../jobs/event-cursor.ts';
import type { StoredEvaluation } from '../storage/evaluation-rows.ts';
import { EVALUATE_USAGE, type EvaluateArguments, readEvaluateArguments } from './evaluate-arguments.ts';
import { evaluationViews, type RunProgress } from './evaluation-progress.ts';
import { evaluationObject, formatEvaluationReport } from './evaluation-report.ts';
import { CANCELLED, LEFT } from './exit-codes.ts';
import { type CommandParts, runCommand } from './run-command.ts';
import { VariantLoader } from './variant-loader.ts';

const CANCELLING =
  'Cancels the run: it ends within a sample. To leave a run unfinished instead, end the process with SIGTERM (kill): the same command with the same --idempotency-key goes on with it.';

interface Command extends Omit<CommandParts<RunProgress>, 'defaultModel'> {
  readonly asked: EvaluateArguments;
  readonly loader: VariantLoader;
}

/** Prints the result on stdout and how it goes on stderr. Rejects with what stands in the way. */
export async function runEvaluateCommand(written: readonly string[]): Promise<void> {
  const asked = readEvaluateArguments(written);
  if (asked === undefined) return console.log(EVALUATE_USAGE);
  for (const file of asked.exports) await checkFolder(file);
  await runCommand(evaluationViews, ({ defaultModel, ...parts }) => {
    const { services, display } = parts;
    const onProgress = (line: string): void => display.say(line);
    return evaluate({ ...parts, asked, loader: new VariantLoader({ services, defaultModel, onProgress }) });
  });
}

/** Returns the exit code. */
async function evaluate(command: Command): Promise<number> {
  const { asked, services, loader, display } = command;
  const { dataset, split, limit, sampleSeed, references, useStemmer, signPatterns, idempotencyKey } = asked;
  // a run that another process left goes on as soon as the database is open, with models that are there by then
  await loader.loadModels(asked.variants);
  // and adapters are registered only in a data folder that no server has
  const evaluations = await services.evaluations.open();
  let isUnfinished = false;
  try {
    const variants = await loader.load(asked.variants, dataset, split);
    const statistics = signPatterns === undefined ? {} : { signPatterns };
    const request = { dataset, split, limit, sampleSeed, references, useStemmer, ...statistics, variants };
    const started = await evaluations.start(request, idempotencyKey);
    isUnfinished = true;
    display.say(`Evaluation ${started.id}: ${started.samplesTotal} samples of ${dataset}/${split}.`);
    const ended = await follow(command, evaluations, started);
    if (ended === undefined) {
      display.say(`Left evaluation ${started.id} unfinished: it goes on at the next start on this data folder.`);
      return LEFT;
    }
    isUnfinished = false;
    await report(command, evaluations, ended);
    return exitCodeOf(command, ended);
  } finally {
    if (!isUnfinished) await loader.unloadAdapters();
  }
}

/** Shows how a run goes until it is over; undefined: it was left. */
async function follow(
  { display, interruption }: Command,
  evaluations: Evaluations,
  started: StoredEvaluation,
): Promise<StoredEvaluation | undefined> {
  const { id, samplesTotal, samplesDone: samplesBefore } = started;
  const failing = new AbortController();
  const cancel = (): void => {
    display.say(CANCELLING);
    evaluations.cancel(id).catch((error: unknown) => failing.abort(error));
  };
  if (interruption.cancelling.aborted) cancel();
  else interruption.cancelling.addEventListener('abort', cancel);
  const begun = performance.now();
  let [samplesDone, summary]: [number, EvaluationSummary | undefined] = [samplesBefore, undefined];
  const signal = AbortSignal.any([interruption.leaving, failing.signal]);
  for await (const event of evaluations.events(id, cursorOf(samplesBefore), signal)) {
    if (event.type === 'finished') {
      display.clear();
      return event.evaluation;
    }
    if (event.type === 'sample') samplesDone = event.sample.sequence;
    else summary = event.summary;
    display.show({ samplesDone, samplesTotal, samplesBefore, elapsedMs: performance.now() - begun, summary });
  }
  failing.signal.throwIfAborted();
  return undefined;
}

async function report({ asked, display }: Command, evaluations: Evaluations, ended: StoredEvaluation): Promise<void> {
  const summary = await evaluations.summary(ended);
  for (const file of asked.exports) {
    const write = findExportFormat(extname(file).slice(1))?.write;
    if (write === undefined) continue;
    await pipeline(Readable.from(write(evaluations.allSamples(ended.id))), createWriteStream(file));
    display.say(`Wrote ${file}.`);
  }
  if (asked.json) console.log(JSON.stringify(evaluationObject(ended, summary)));
  else if (ended.status !== 'failed') console.log(formatEvaluationReport(ended, summary));
}

function exitCodeOf({ display, interruption }: Command, { id, status, error }: StoredEvaluation): number {
  if (status === 'succeeded') return 0;
  display.say(status === 'failed' ? `Evaluation ${id} failed: ${error}` : `Evaluation ${id} was cancelled.`);
  return interruption.cancelling.aborted ? CANCELLED : 1;
}

async function checkFolder(file: string): Promise<void> {
  try {
    await access(dirname(file), constants.W_OK);
  } catch (cause) {
    const message = `Expected --export to name a file of a folder that can be written, ${JSON.stringify(file)} came. Make the folder first.`;
    throw new Error(message, { cause });
  }
}
