/** The adapter loader's thread: reads the folders that it is told, one after the other. */
import { constants, setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { invariant } from '../errors.ts';
import { toTransfer } from '../transfer-error.ts';
import type { AdapterLoaderSetup, FromAdapterLoader, ToAdapterLoader } from './adapter-loader-messages.ts';
import { resolveAdapterFolder } from './adapter-source.ts';
import { readAdapter } from './read-adapter.ts';

const port = parentPort;
invariant(port !== null, 'adapter-loader-worker.ts runs in a worker thread');
const { places, limits } = workerData as AdapterLoaderSetup;

// on Linux a thread has a priority of its own: reading waits for the steps of models, not they for it
if (process.platform === 'linux') setPriority(constants.priority.PRIORITY_LOW);

async function load({ loadId, source, base }: ToAdapterLoader): Promise<FromAdapterLoader> {
  try {
    const folder = await resolveAdapterFolder(source, places);
    return { type: 'loaded', loadId, adapter: await readAdapter(folder, base, limits) };
  } catch (error) {
    return { type: 'failed', loadId, error: toTransfer(error) };
  }
}

port.on('message', (message: ToAdapterLoader) => {
  void load(message).then((answer) => port.postMessage(answer));
});
