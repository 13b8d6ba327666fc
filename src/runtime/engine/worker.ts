/** The inference worker's thread: loads one model, then runs its engine until it is told to close. */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { createStrategy } from '../decoding/create-strategy.ts';
import { invariant } from '../errors.ts';
import { loadRunner } from '../models/load-runner.ts';
import { TextTail } from '../tokenizer/text-tail.ts';
import { toTransfer } from '../transfer-error.ts';
import { usableMemory } from '../usable-memory.ts';
import { Engine } from './engine.ts';
import type { ModelRunner } from './model-runner.ts';
import type { FromWorker, ToWorker, WorkerSetup } from './worker-messages.ts';

const port = parentPort;
invariant(port !== null, 'worker.ts runs in a worker thread');
const setup = workerData as WorkerSetup;

/** Of the memory there is, keys and values of a model may take one part in so many. */
const CACHE_SHARE = 4;

function send(message: FromWorker): void {
  port?.postMessage(message);
}

function createEngine(runner: ModelRunner): Engine {
  const tail = new TextTail(setup.vocabulary);
  const context = {
    eosTokenIds: runner.eosTokenIds,
    vocabularySize: runner.vocabularySize,
    endOfText: (ids: readonly number[], length: number) => tail.of(ids, length),
  };
  return new Engine(
    runner,
    {
      ...setup.scheduler,
      createStrategy: (params, history) => createStrategy(params, { ...context, history }),
      cacheBytes: usableMemory() / CACHE_SHARE,
      now: () => performance.now(),
    },
    {
      onTokens: (requestId, tokens) => send({ type: 'tokens', requestId, tokens }),
      onFinished: (requestId, output) => send({ type: 'finished', requestId, output }),
      onFailed: (requestId, error) => send({ type: 'failed', requestId, error: toTransfer(error) }),
      ...(setup.traceSteps ? { onStep: (trace) => send({ type: 'step', trace }) } : {}),
    },
  );
}

/** Between the pieces of the texts the engine makes a step, when it has work. */
async function embed(
  runner: ModelRunner,
  engine: Engine,
  message: Extract<ToWorker, { type: 'embed' }>,
): Promise<void> {
  const { embedId, tokenIds, layer } = message;
  try {
    const vectors: Float32Array[] = [];
    const between = async (): Promise<void> => {
      if (engine.hasWork) await engine.step();
    };
    for (const ids of tokenIds) {
      if (vectors.length > 0) await between();
      vectors.push(await runner.embed(ids, layer, between));
    }
    send({ type: 'embedded', embedId, vectors });
  } catch (error) {
    send({ type: 'embed-failed', embedId, error: toTransfer(error) });
  }
}

/** Messages are taken as they come, between the runs of the model; the loop sleeps when nothing is left to do. */
function serve(runner: ModelRunner, engine: Engine): void {
  const embeds: Extract<ToWorker, { type: 'embed' }>[] = [];
  let looping = false;
  let closing = false;
  const loop = async (): Promise<void> => {
    if (looping) return;
    looping = true;
    while (engine.hasWork || embeds.length > 0) {
      const next = embeds.shift();
      if (next !== undefined) await embed(runner, engine, next);
      if (engine.hasWork) await engine.step();
    }
    looping = false;
    if (!closing) return;
    await runner.dispose();
    port?.close();
  };
  port?.on('message', (message: ToWorker) => {
    switch (message.type) {
      case 'generate':
        for (const request of message.requests) submit(engine, request);
        break;
      case 'cancel':
        engine.cancel(message.requestId);
        break;
      case 'embed':
        embeds.push(message);
        break;
      case 'add-adapter':
        runner.addAdapter(message.key, message.weights);
        break;
      case 'drop-adapter':
        runner.dropAdapter(message.key);
        break;
      case 'close':
        closing = true;
        break;
      default:
        message satisfies never;
    }
    void loop();
  });
}

function submit(engine: Engine, request: Extract<ToWorker, { type: 'generate' }>['requests'][number]): void {
  try {
    engine.submit(request);
  } catch (error) {
    send({ type: 'failed', requestId: request.id, error: toTransfer(error) });
  }
}

/** While the model loads nothing but `close` can come. */
function reportProgress(stage: string, share: number): void {
  if (port !== null && receiveMessageOnPort(port) !== undefined) throw new Error('the worker is not wanted any more');
  send({ type: 'progress', stage, share });
}

try {
  const loaded = await loadRunner(setup, reportProgress);
  for (const [key, weights] of setup.adapters) loaded.runner.addAdapter(key, weights);
  serve(loaded.runner, createEngine(loaded.runner));
  const { parameterCount, memoryBytes, kernels, warnings } = loaded;
  send({ type: 'ready', parameterCount, memoryBytes, kernels, warnings });
} catch (error) {
  send({ type: 'load-failed', error: toTransfer(error) });
  port.close();
}
