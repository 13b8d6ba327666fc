/** Runs the server as a process: one line on stdout, then service until a signal. */
import { readConfig } from './config.ts';
import { startServer } from './server.ts';

export async function serve(): Promise<void> {
  const server = await startServer(readConfig(process.env));
  console.log(server.banner);
  const stop = (): void => {
    // a second signal does not wait
    for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => process.exit(1));
    void server.close().then(() => process.exit(0));
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
}
