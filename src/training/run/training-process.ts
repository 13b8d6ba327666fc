/**
 * Runs a training in a process of its own: the system gives it what serving leaves of the processors, its memory is its
 * own, and whatever ends it ends nothing else.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fromTransfer } from '../../runtime/transfer-error.ts';
import type { FromTrainer, ToTrainer, TrainerPlaces, TrainingPlan, TrainingProgress } from './trainer-protocol.ts';

export interface TrainingRunOptions {
  /** Has stored the events when it resolves: checkpoints wait for that. */
  readonly onProgress: (events: readonly TrainingProgress[]) => Promise<void>;
  /** Once aborted, the run leaves off after a step, with a checkpoint. */
  readonly signal: AbortSignal;
}

/** Characters of what a process wrote at last that stand in a message. */
const LAST_WORDS = 2000;

/**
 * Trains, going on from the checkpoint in `places.checkpoints` if there is one. Resolves with `finished` when the output
 * folder is there. Rejects with RuntimeError when the plan cannot be carried out, and with another Error when the
 * process ended before it was done, or events could not be stored: then it may be run again.
 */
export async function runTraining(
  plan: TrainingPlan,
  places: TrainerPlaces,
  { onProgress, signal }: TrainingRunOptions,
): Promise<'finished' | 'stopped'> {
  const child = startProcess();
  const closed = once(child, 'close');
  const say = (message: ToTrainer): void => {
    if (child.connected) child.send(message);
  };
  const stop = (): void => say({ type: 'stop' });
  signal.addEventListener('abort', stop);
  try {
    const end = conversation(child, say, onProgress);
    say({ type: 'start', plan, places });
    if (signal.aborted) stop();
    return await end;
  } finally {
    signal.removeEventListener('abort', stop);
    child.kill('SIGKILL');
    await closed;
  }
}

function conversation(
  child: ChildProcess,
  say: (message: ToTrainer) => void,
  onProgress: TrainingRunOptions['onProgress'],
): Promise<'finished' | 'stopped'> {
  return new Promise((resolve, reject) => {
    const lastWords = keepLastWords(child);
    child.on('error', reject);
    child.on('close', (code, killedBy) => {
      const how = killedBy === null ? `with exit code ${code}` : `by ${killedBy}`;
      reject(new Error(`Expected the process of the training to say how it ended, it ended ${how}. ${lastWords()}`));
    });
    child.on('message', (message: FromTrainer) => {
      switch (message.type) {
        case 'progress':
          onProgress(message.events).then(() => say({ type: 'acknowledged' }), reject);
          return;
        case 'finished':
        case 'stopped':
          resolve(message.type);
          return;
        case 'failed':
          reject(fromTransfer(message.error));
          return;
        default:
          message satisfies never;
      }
    });
  });
}

/** The end of what it writes to stderr. */
function keepLastWords(child: ChildProcess): () => string {
  let words = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    words = (words + text).slice(-LAST_WORDS);
  });
  return () => words.trim();
}

function startProcess(): ChildProcess {
  const fromSource = import.meta.url.endsWith('.ts');
  return fork(new URL(fromSource ? './trainer-process.ts' : './trainer-process.js', import.meta.url), {
    // from source (tests, development) it needs the loader of TypeScript
    execArgv: fromSource ? ['--import', import.meta.resolve('tsx')] : [],
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
}
