/** Runs the server as a process: one line on stdout, then service until a signal. */
import { readConfig } from './config.ts';
import { startServer } from './server.ts';

export async function serve(): Promise<void> {
  const server = await startServer(readConfig(process.env));
  console.log(server.banner);
  const signals = ['SIGTERM', 'SIGINT'] as const;
  const stop = (): void => {
    // a second signal ends the process as if nobody listened; an exit would end workers inside a run, which aborts
    for (const signal of signals) process.off(signal, stop);
    void server.close().then(() => process.exit(0));
  };
  for (const signal of signals) process.on(signal, stop);
}
