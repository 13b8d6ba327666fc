/** What commands that make a run have in common: the server's services, a display, and signals that end it. */
import { pino } from 'pino';
import { readConfig } from '../config.ts';
import type { Services } from '../context.ts';
import { databaseErrorOf } from '../runtime/database-errors.ts';
import type { LoadModelRequest } from '../runtime/models/served-model.ts';
import { defaultModelRequest, openServices } from '../services.ts';
import { Interruption } from './interruption.ts';
import { ProgressDisplay, type ProgressViews } from './progress-display.ts';

export interface CommandParts<Progress> {
  readonly services: Services;
  readonly defaultModel: LoadModelRequest;
  readonly display: ProgressDisplay<Progress>;
  readonly interruption: Interruption;
}

/** Sets the process's exit code to what `command` returns, and closes all. Rejects with what stands in the way. */
export async function runCommand<Progress>(
  views: ProgressViews<Progress>,
  command: (parts: CommandParts<Progress>) => Promise<number>,
): Promise<void> {
  const config = readConfig({ GISTQL_LOG_LEVEL: 'warn', ...process.env });
  const log = pino({ level: config.logLevel }, pino.destination({ dest: 2, sync: true }));
  const display = new ProgressDisplay(process.stderr, () => performance.now(), views);
  const stopping = new AbortController();
  const interruption = new Interruption();
  const { services, close } = await openServices(config, { log, hooks: {}, stopping: stopping.signal });
  try {
    const defaultModel = defaultModelRequest(config);
    process.exitCode = await command({ services, defaultModel, display, interruption });
  } catch (error) {
    throw databaseErrorOf(error) ?? error;
  } finally {
    stopping.abort();
    await close();
    interruption.end();
  }
}
