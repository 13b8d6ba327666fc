/** Loads a model of any family in an inference worker: checks the weights, writes the graphs, makes the sessions. */
import { openDecoderOnly } from '../decoder-only/open-decoder-only.ts';
import type { LoraTargets } from '../graph/lora.ts';
import type { Int8Format } from '../graph/quantized-linear.ts';
import { type AdapterMemory, defaultAdapterMemory } from '../lora/adapter-memory.ts';
import { noTargets } from '../lora/lora-targets.ts';
import { finestExactRange } from '../quantization/exact-range.ts';
import { openT5 } from '../t5/open-t5.ts';
import type { LoadContext, LoadedRunner } from './load-context.ts';
import type { ModelConfig } from './model-config.ts';
import { withModelErrors } from './model-files.ts';
import { openModelWeights } from './model-weights.ts';
import type { Device, Precision } from './served-model.ts';

export interface LoadOptions {
  readonly modelFolder: string;
  readonly config: ModelConfig;
  readonly threadCount: number;
  /** Default: float32. */
  readonly precision?: Precision;
  /** Default: the processor. */
  readonly device?: Device;
  /** Whether a run of the decoder makes several steps. Default: on CUDA, whose memory is apart, and in float16. */
  readonly decodeLoop?: boolean;
  /** The matrices that adapters may change; absent: none. */
  readonly targets?: LoraTargets;
  /** Default: `defaultAdapterMemory`. */
  readonly memory?: AdapterMemory;
  /** As in OutputHeadOptions. */
  readonly screened?: boolean;
}

export function loadRunner(
  {
    modelFolder,
    config,
    targets = noTargets,
    memory = defaultAdapterMemory,
    precision = 'fp32',
    device = 'cpu',
    decodeLoop = device === 'cuda' || precision === 'fp16',
    ...options
  }: LoadOptions,
  onProgress: LoadContext['onProgress'],
): Promise<LoadedRunner> {
  return withModelErrors(async () => {
    const files = await openModelWeights(modelFolder, config);
    try {
      const int8 = precision === 'int8' ? await int8Format(config, options.threadCount) : undefined;
      const loop = decodeLoop ? (precision === 'fp16' ? 'float16' : 'float32') : undefined;
      const context = { files, targets, memory, onProgress, int8, device, loop, ...options } as const;
      return config.family === 't5' ? await openT5(config, context) : await openDecoderOnly(config, context);
    } finally {
      await files.close();
    }
  });
}

/** T5's rows do with one byte; those of decoder-only models do not (docs/results.md has what either costs). */
async function int8Format({ family }: ModelConfig, threadCount: number): Promise<Int8Format> {
  return { range: await finestExactRange(threadCount), rowBytes: family === 't5' ? 1 : 2 };
}
