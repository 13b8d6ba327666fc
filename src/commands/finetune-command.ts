/** `gistql finetune`: one training over the services that the server has, from the command line to its exit code. */
import { cursorOf } from '../jobs/event-cursor.ts';
import { isOver } from '../storage/run-store.ts';
import type { StoredTraining } from '../storage/training-rows.ts';
import type { Trainings } from '../training/jobs/trainings.ts';
import type { TrainingPlan } from '../training/run/trainer-protocol.ts';
import { CANCELLED, LEFT } from './exit-codes.ts';
import { FINETUNE_USAGE, type FinetuneArguments, readFinetuneArguments } from './finetune-arguments.ts';
import { formatTrainingReport, trainingObject, trainingViews } from './finetune-progress.ts';
import { modelRequest } from './model-request.ts';
import { type CommandParts, runCommand } from './run-command.ts';

interface Command extends CommandParts<StoredTraining> {
  readonly asked: FinetuneArguments;
}

/** Prints the result on stdout and how it goes on stderr. Rejects with what stands in the way. */
export async function runFinetuneCommand(written: readonly string[]): Promise<void> {
  const asked = readFinetuneArguments(written);
  if (asked === undefined) return console.log(FINETUNE_USAGE);
  await runCommand(trainingViews, (parts) => finetune({ ...parts, asked }));
}

/** Returns the exit code. */
async function finetune(command: Command): Promise<number> {
  const { asked, display } = command;
  const { trainings, started } = await start(command);
  const { id, stepsTotal, outputId } = started;
  display.say(`Training ${id}: ${stepsTotal} steps, to be ${outputId}.`);
  const ended = isOver(started) ? started : await follow(command, trainings, started);
  if (ended === undefined) {
    display.say(
      `Left training ${id} unfinished: it goes on at the next start on this data folder, or with --resume ${id}.`,
    );
    return LEFT;
  }
  for (const warning of ended.warnings) display.say(warning);
  if (asked.json) console.log(JSON.stringify(trainingObject(ended)));
  else if (ended.status !== 'failed') console.log(formatTrainingReport(ended, outputName(ended)));
  return exitCodeOf(command, ended);
}

async function start(command: Command): Promise<{ readonly trainings: Trainings; readonly started: StoredTraining }> {
  const { asked, services, display } = command;
  if (typeof asked.training === 'string') {
    const trainings = await services.trainings.open();
    const known = await trainings.find(asked.training);
    const goesOn = known.status === 'failed' || known.status === 'cancelled';
    return { trainings, started: goesOn ? await trainings.resume(known.id) : known };
  }
  const { model, request, idempotencyKey } = asked.training;
  const wanted = modelRequest('Expected --model', model, command.defaultModel);
  display.say(`Loads ${wanted.source}.`);
  const { id: modelId } = await services.models.load(wanted);
  const trainings = await services.trainings.open();
  return { trainings, started: await trainings.start({ ...request, modelId }, idempotencyKey) };
}

/** Shows how a run goes until it is over; undefined: it was left. */
async function follow(
  { display, interruption }: Command,
  trainings: Trainings,
  { id, eventCount }: StoredTraining,
): Promise<StoredTraining | undefined> {
  const failing = new AbortController();
  const cancel = (): void => {
    display.say(`Cancels the run: it ends after a step, and gistql finetune --resume ${id} goes on from there.`);
    trainings.cancel(id).catch((error: unknown) => failing.abort(error));
  };
  if (interruption.cancelling.aborted) cancel();
  else interruption.cancelling.addEventListener('abort', cancel);
  const signal = AbortSignal.any([interruption.leaving, failing.signal]);
  for await (const { training, measured } of trainings.events(id, cursorOf(eventCount), signal)) {
    if (measured === undefined) {
      display.clear();
      return training;
    }
    display.show(training);
  }
  failing.signal.throwIfAborted();
  return undefined;
}

function outputName({ outputId, request }: StoredTraining): string {
  const { lora, modelId } = request as TrainingPlan;
  return lora === null ? `model ${outputId} (dir:${outputId})` : `adapter ${outputId} of ${modelId} (dir:${outputId})`;
}

function exitCodeOf({ display, interruption }: Command, { id, status, error }: StoredTraining): number {
  if (status === 'succeeded') return 0;
  display.say(status === 'failed' ? `Training ${id} failed: ${error}` : `Training ${id} was cancelled.`);
  return interruption.cancelling.aborted ? CANCELLED : 1;
}
