/** The services of a process without a server, closed when the test ends. */
import type { TestContext } from 'node:test';
import { pino } from 'pino';
import { type Config, readConfig } from '../../src/config.ts';
import type { Services } from '../../src/context.ts';
import { openServices } from '../../src/services.ts';

export async function openTestServices(
  t: TestContext,
  environment: Readonly<Record<string, string>>,
): Promise<{ readonly config: Config; readonly services: Services }> {
  const config = readConfig({ GISTQL_THREADS: '2', GISTQL_DEVICE: 'cpu', ...environment });
  const stopping = new AbortController();
  const parts = { log: pino({ level: 'silent' }), hooks: {}, stopping: stopping.signal };
  const { services, close } = await openServices(config, parts);
  t.after(async () => {
    stopping.abort();
    await close();
  });
  return { config, services };
}
