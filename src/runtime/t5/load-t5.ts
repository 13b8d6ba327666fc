/** Loads a T5 in an inference worker: checks the weights, writes the graphs, makes the sessions. */
import { WeightFiles } from '../../storage/model-folder.ts';
import type { LoraTargets } from '../graph/lora.ts';
import { type AdapterMemory, defaultAdapterMemory } from '../lora/adapter-memory.ts';
import { noTargets } from '../lora/lora-targets.ts';
import type { T5Config } from '../models/model-config.ts';
import { withModelErrors } from '../models/model-files.ts';
import { AdaptedHead } from '../output-head/adapted-head.ts';
import { OutputHead } from '../output-head/output-head.ts';
import { RowHeads } from '../output-head/row-heads.ts';
import { Session, type SessionOptions } from '../session.ts';
import { type AdaptableGraph, buildT5Decoder, buildT5Encoder } from './t5-graphs.ts';
import { readT5Parameters } from './t5-parameters.ts';
import { type AdaptableSession, T5Runner } from './t5-runner.ts';
import { checkT5Tensors, t5ParameterCount } from './t5-tensors.ts';

export interface LoadedRunner {
  readonly runner: T5Runner;
  readonly parameterCount: number;
  readonly memoryBytes: number;
  readonly warnings: readonly string[];
}

export interface LoadOptions {
  readonly modelFolder: string;
  readonly config: T5Config;
  readonly threadCount: number;
  /** The matrices that adapters may change; absent: none. */
  readonly targets?: LoraTargets;
  /** Default: `defaultAdapterMemory`. */
  readonly memory?: AdapterMemory;
  /** As in OutputHeadOptions. */
  readonly screened?: boolean;
}

const FLOAT_BYTES = 4;

export function loadT5Runner(
  { modelFolder, config, targets = noTargets, memory = defaultAdapterMemory, ...options }: LoadOptions,
  onProgress: (stage: string, share: number) => void,
): Promise<LoadedRunner> {
  return withModelErrors(async () => {
    const files = await WeightFiles.open(modelFolder);
    try {
      const warnings = checkT5Tensors(config, files);
      const total = files.names().length;
      let done = 0;
      const parameters = await readT5Parameters(config, files, () => {
        done++;
        if (done % 50 === 0) onProgress('weights', done / total);
      });
      onProgress('encoder', 0);
      const encoder = await openGraph(buildT5Encoder(config, parameters, targets), options);
      onProgress('decoder', 0);
      const decoder = await openGraph(buildT5Decoder(config, parameters, targets), options);
      onProgress('head', 0);
      const head = await OutputHead.create(parameters.head, config.hiddenSize, options);
      const adapted = new AdaptedHead(head, parameters.head, config.hiddenSize, { ...options, memory });
      const heads = new RowHeads(head, adapted, config.hiddenSize);
      const parts = { encoder, decoder, heads, memory, threadCount: options.threadCount };
      const runner = new T5Runner(config, parts, parameters.embeddings);
      const untied = parameters.head !== parameters.embeddings;
      const parameterCount = t5ParameterCount(config, untied);
      // the embedding table stays beside the head that the session packed for itself
      const table = untied ? 0 : parameters.embeddings.length * FLOAT_BYTES;
      return { runner, parameterCount, memoryBytes: parameterCount * FLOAT_BYTES + table + head.screenBytes, warnings };
    } finally {
      await files.close();
    }
  });
}

async function openGraph({ model, adapted }: AdaptableGraph, options: SessionOptions): Promise<AdaptableSession> {
  return { session: await Session.create(model, options), adapted };
}
