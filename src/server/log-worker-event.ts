import type { Logger } from 'pino';
import type { SupervisorEvent } from '../runtime/engine/supervised-engine.ts';

/** error: requests were lost. fatal: a person has to do something. */
export function logWorkerEvent(log: Logger, model: string, event: SupervisorEvent): void {
  switch (event.type) {
    case 'ended': {
      const { cause: err, failureCount, restartInMs } = event;
      log.error({ model, err, failureCount, restartInMs }, 'the worker ended');
      return;
    }
    case 'restarted':
      log.info({ model, startMs: Math.round(event.startMs) }, 'a new worker is in service');
      return;
    case 'given-up': {
      const { cause: err, failureCount } = event;
      log.fatal({ model, err, failureCount }, 'the worker ended again and is given up: unload the model and load it');
      return;
    }
    default:
      event satisfies never;
  }
}
