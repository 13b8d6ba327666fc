/** The samples of a split as tokens: sources as a server would read them, and the summaries that are to be written. */

import type { DatasetSelection } from '../../runtime/datasets/dataset-selection.ts';
import { RuntimeError } from '../../runtime/errors.ts';
import type { T5Config } from '../../runtime/models/model-config.ts';
import { fitDialogue } from '../../runtime/prompts/fit-dialogue.ts';
import type { PromptFrame } from '../../runtime/prompts/templates.ts';
import type { Tokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import type { DatasetSample } from '../../storage/dataset-columns.ts';
import type { TrainingExample } from '../graph/batch-feeds.ts';
import type { SampleLengths } from './batch-plan.ts';

export interface SampleReading {
  readonly config: T5Config;
  readonly tokenizer: Tokenizer;
  readonly frame: PromptFrame;
  /** Of a whole source, instruction and end token included. */
  readonly maxSourceTokens: number;
  /** Of a summary, its end token included. */
  readonly maxTargetTokens: number;
}

export class TrainingSamples implements SampleLengths {
  private constructor(
    private readonly sources: readonly Int32Array[],
    private readonly targets: readonly Int32Array[],
    private readonly ids: readonly string[],
    readonly cutSources: number,
    readonly cutTargets: number,
  ) {}

  /** Reads everything; of several references the first. Throws RuntimeError INVALID_DATASET, and when nothing is selected. */
  static async read(selection: DatasetSelection, reading: SampleReading): Promise<TrainingSamples> {
    const [sources, targets, ids]: [Int32Array[], Int32Array[], string[]] = [[], [], []];
    let [cutSources, cutTargets] = [0, 0];
    for await (const sample of selection.samples()) {
      const source = await readSource(sample, reading);
      const target = await readTarget(sample, reading);
      if (source.cut) cutSources++;
      if (target.cut) cutTargets++;
      sources.push(source.ids);
      targets.push(target.ids);
      ids.push(sample.id);
    }
    if (ids.length === 0) {
      const message = `Expected samples in ${selection.dataset.id}/${selection.split}, none came. Choose a split that has some.`;
      throw new RuntimeError('INVALID_DATASET', message);
    }
    return new TrainingSamples(sources, targets, ids, cutSources, cutTargets);
  }

  get count(): number {
    return this.ids.length;
  }

  sourceLength(sample: number): number {
    return this.sources[sample]?.length ?? 0;
  }

  targetLength(sample: number): number {
    return this.targets[sample]?.length ?? 0;
  }

  id(sample: number): string {
    return this.ids[sample] ?? '';
  }

  examples(samples: Uint32Array): readonly TrainingExample[] {
    return Array.from(samples, (sample) => ({
      inputIds: [...(this.sources[sample] ?? [])],
      labels: [...(this.targets[sample] ?? [])],
    }));
  }

  /** Source and label tokens of samples, without padding. */
  tokens(samples: Uint32Array): number {
    return samples.reduce((sum, sample) => sum + this.sourceLength(sample) + this.targetLength(sample), 0);
  }
}

interface ReadTokens {
  readonly ids: Int32Array;
  readonly cut: boolean;
}

/** The prompt of serving, its dialogue cut where it is too long: the instruction and the cue stay. */
async function readSource(sample: DatasetSample, reading: SampleReading): Promise<ReadTokens> {
  const { tokenizer, frame, config, maxSourceTokens } = reading;
  const maxInputTokens = Math.min(config.maxInputTokens, maxSourceTokens);
  const fitted = await fitDialogue({ tokenizer, config: { maxInputTokens } }, frame, sample.text, true);
  const ids = await tokenizer.encode(fitted.text);
  // a prompt of nothing but an empty dialogue: a model reads its end
  return { ids: Int32Array.from(ids.length === 0 ? [endOf(config)] : ids), cut: fitted.truncated };
}

async function readTarget(sample: DatasetSample, reading: SampleReading): Promise<ReadTokens> {
  const { tokenizer, config, maxTargetTokens } = reading;
  const encoded = await tokenizer.encode(sample.references[0] ?? '');
  const end = endOf(config);
  const content = config.eosTokenIds.includes(encoded.at(-1) ?? -1) ? encoded.slice(0, -1) : encoded;
  const kept = content.slice(0, maxTargetTokens - 1);
  return { ids: Int32Array.of(...kept, end), cut: kept.length < content.length };
}

function endOf({ eosTokenIds, padTokenId }: T5Config): number {
  return eosTokenIds[0] ?? padTokenId;
}
