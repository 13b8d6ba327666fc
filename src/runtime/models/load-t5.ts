/** Loads a T5 in an inference worker: checks the weights, writes the graphs, makes the sessions. */
import { WeightFiles } from '../../storage/model-folder.ts';
import { Session } from '../session.ts';
import type { T5Config } from './model-config.ts';
import { withModelErrors } from './model-files.ts';
import { OutputHead } from './output-head.ts';
import { buildT5Decoder, buildT5Encoder } from './t5-graphs.ts';
import { readT5Parameters } from './t5-parameters.ts';
import { T5Runner } from './t5-runner.ts';
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
  /** As in OutputHeadOptions. */
  readonly screened?: boolean;
}

const FLOAT_BYTES = 4;

export function loadT5Runner(
  { modelFolder, config, ...options }: LoadOptions,
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
      const encoder = await Session.create(buildT5Encoder(config, parameters), options);
      onProgress('decoder', 0);
      const decoder = await Session.create(buildT5Decoder(config, parameters), options);
      onProgress('head', 0);
      const head = await OutputHead.create(parameters.head, config.hiddenSize, options);
      const runner = new T5Runner(config, { encoder, decoder }, head, parameters.embeddings);
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
