/**
 * The process of one training. It has the lowest priority: what serves comes first, whatever trains. It ends with the
 * process that started it; its last checkpoint is what is left then.
 */
import { constants, setPriority } from 'node:os';
import { RuntimeError } from '../../runtime/errors.ts';
import { toTransfer } from '../../runtime/transfer-error.ts';
import { ProgressReports } from './progress-reports.ts';
import { train } from './trainer.ts';
import type { FromTrainer, ToTrainer } from './trainer-protocol.ts';

// threads inherit it: before any session has made some
setPriority(constants.priority.PRIORITY_LOW);

function send(message: FromTrainer): void {
  process.send?.(message);
}

const stopping = new AbortController();
const reports = new ProgressReports((events) => send({ type: 'progress', events }));

// Ctrl-C reaches the whole group: whoever started this one says what is to be done
process.on('SIGINT', () => {});
process.on('disconnect', () => process.exit(1));
process.on('message', (message: ToTrainer) => {
  switch (message.type) {
    case 'start':
      void run(message);
      return;
    case 'acknowledged':
      reports.acknowledge();
      return;
    case 'stop':
      stopping.abort();
      return;
    default:
      message satisfies never;
  }
});

async function run({ plan, places }: Extract<ToTrainer, { type: 'start' }>): Promise<void> {
  try {
    const end = await train(plan, places, {
      report: (event) => reports.add(event),
      stored: () => reports.stored(),
      stopping: stopping.signal,
    });
    send({ type: end });
  } catch (error) {
    send({ type: 'failed', error: toTransfer(withDiskAdvice(error)) });
  }
}

function withDiskAdvice(cause: unknown): unknown {
  const { code } = cause as NodeJS.ErrnoException;
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return cause;
  const message =
    'Expected room for checkpoints and for what the training makes, the disk is full. Free some and resume the training: its last checkpoint is kept.';
  return new RuntimeError('INTERNAL_SERVER_ERROR', message, {}, { cause });
}
