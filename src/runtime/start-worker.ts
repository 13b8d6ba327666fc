/** Starts a module of ours as a worker thread, from source or from what was built. */
import { Worker, type WorkerOptions } from 'node:worker_threads';

/**
 * `caller` is the caller's `import.meta.url`, `module` the worker's path from there without an extension: `./worker`.
 * Started from source (tests, development), a worker has to be given the loader of TypeScript anew.
 */
export function startWorker(
  caller: string,
  module: string,
  options: Pick<WorkerOptions, 'workerData' | 'resourceLimits'>,
): Worker {
  if (!caller.endsWith('.ts')) return new Worker(new URL(`${module}.js`, caller), options);
  const url = JSON.stringify(new URL(`${module}.ts`, caller).href);
  const boot = `import('tsx/esm/api').then(({ register }) => { register(); return import(${url}); })`;
  return new Worker(boot, { ...options, eval: true, execArgv: [] });
}
