#!/usr/bin/env node
/** The command line: thin, over the same parts that the server uses. */
import { parseArgs } from 'node:util';
import { runLoadCommand } from './bench/load-command.ts';
import { serveBenchProtocol } from './bench/protocol.ts';
import { runSwapCommand } from './bench/swap-command.ts';
import { runDoctorCommand } from './commands/doctor-command.ts';
import { runEvaluateCommand } from './commands/evaluate-command.ts';
import { runFinetuneCommand } from './commands/finetune-command.ts';
import { runPullCommand } from './commands/pull-command.ts';
import type { Device, Precision } from './runtime/models/served-model.ts';
import { serve } from './serve.ts';
import { readVersion } from './version.ts';

const USAGE = `gistql serve                                  starts the server (settings: the environment)
gistql evaluate --dataset NAME --variant SPEC … measures variants on a dataset; gistql evaluate --help says more
gistql finetune --dataset NAME --output ID …    trains an adapter or a model; gistql finetune --help says more
gistql pull hub:OWNER/NAME                     fetches a model, adapter or dataset; gistql pull --help says more
gistql doctor                                 says what this machine is and how fast it multiplies
gistql bench --protocol [--threads N] [--device cpu|cuda] [--precision fp32|int8|fp16] [--decode-loop]
    [--adapters FOLDER] MODEL                 answers benchmark requests on stdin; --decode-loop: as CUDA decodes
gistql bench --load [--minutes 10] [--in-flight 32] [--seed 1] [MODEL]
                                              holds a server under load; MODEL: embedded:NAME or dir:NAME
gistql bench --swap [--rounds 300] [--seed 1] [--adapters FOLDER] [MODEL]
                                              measures what a swap to another adapter of FOLDER costs`;

const devices: readonly Device[] = ['cpu', 'cuda'];
const precisions: readonly Precision[] = ['fp32', 'int8', 'fp16'];

function isOneOf<T extends string>(known: readonly T[], text: string): text is T {
  return (known as readonly string[]).includes(text);
}

async function main(): Promise<void> {
  const [name, ...rest] = process.argv.slice(2);
  if (name === 'evaluate') return runEvaluateCommand(rest);
  if (name === 'finetune') return runFinetuneCommand(rest);
  if (name === 'pull') return runPullCommand(rest);
  if (name === 'doctor') return runDoctorCommand();
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      protocol: { type: 'boolean', default: false },
      device: { type: 'string', default: 'cpu' },
      precision: { type: 'string', default: 'fp32' },
      'decode-loop': { type: 'boolean', default: false },
      threads: { type: 'string', default: '2' },
      adapters: { type: 'string' },
      load: { type: 'boolean', default: false },
      swap: { type: 'boolean', default: false },
      rounds: { type: 'string', default: '300' },
      minutes: { type: 'string', default: '10' },
      'in-flight': { type: 'string', default: '32' },
      seed: { type: 'string', default: '1' },
    },
  });
  const [command, folder] = positionals;
  if (command === 'bench' && values.load) {
    const { minutes, 'in-flight': inFlight, seed } = values;
    return runLoadCommand({ minutes, inFlight, seed, modelSource: folder });
  }
  if (command === 'bench' && values.swap) {
    const { rounds, seed, adapters: adaptersFolder } = values;
    return runSwapCommand({ rounds, seed, modelSource: folder, adaptersFolder });
  }
  if (command === 'serve') return serve();
  const { device, precision } = values;
  if (
    command === 'bench' &&
    values.protocol &&
    folder !== undefined &&
    isOneOf(devices, device) &&
    isOneOf(precisions, precision)
  ) {
    return serveBenchProtocol({
      modelFolder: folder,
      adaptersFolder: values.adapters,
      threadCount: Number(values.threads),
      device,
      precision,
      decodeLoop: values['decode-loop'],
      version: readVersion(),
    });
  }
  throw new Error(`Expected one of:\n${USAGE}`);
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
