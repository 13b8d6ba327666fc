/** The samples of a split as tokens: sources as a server would read them, and the summaries that are to be written. */

import type { DatasetSelection } from '../../runtime/datasets/dataset-selection.ts';
import { invariant, RuntimeError } from '../../runtime/errors.ts';
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

/** Samples that are tokenized at a time. */
const READ_TOGETHER = 64;

export class TrainingSamples implements SampleLengths {
  private constructor(private readonly samples: readonly ReadSample[]) {}

  /** Reads everything; of several references the first. Throws RuntimeError INVALID_DATASET, and when nothing is selected. */
  static async read(selection: DatasetSelection, reading: SampleReading): Promise<TrainingSamples> {
    const read: ReadSample[] = [];
    let together: Promise<ReadSample>[] = [];
    for await (const sample of selection.samples()) {
      together.push(readSample(sample, reading));
      if (together.length < READ_TOGETHER) continue;
      read.push(...(await Promise.all(together)));
      together = [];
    }
    read.push(...(await Promise.all(together)));
    if (read.length === 0) {
      const message = `Expected samples in ${selection.dataset.id}/${selection.split}, none came. Choose a split that has some.`;
      throw new RuntimeError('INVALID_DATASET', message);
    }
    return new TrainingSamples(read);
  }

  get count(): number {
    return this.samples.length;
  }

  /** Samples whose source was cut. */
  get cutSources(): number {
    return this.samples.filter(({ source }) => source.cut).length;
  }

  /** Samples whose summary was cut. */
  get cutTargets(): number {
    return this.samples.filter(({ target }) => target.cut).length;
  }

  get longestSource(): number {
    return this.samples.reduce((most, { source }) => Math.max(most, source.ids.length), 0);
  }

  get longestTarget(): number {
    return this.samples.reduce((most, { target }) => Math.max(most, target.ids.length), 0);
  }

  sourceLength(sample: number): number {
    return this.sample(sample).source.ids.length;
  }

  targetLength(sample: number): number {
    return this.sample(sample).target.ids.length;
  }

  id(sample: number): string {
    return this.sample(sample).id;
  }

  examples(samples: Uint32Array): readonly TrainingExample[] {
    return Array.from(samples, (sample) => {
      const { source, target } = this.sample(sample);
      return { inputIds: [...source.ids], labels: [...target.ids] };
    });
  }

  /** Source and label tokens of samples, without padding. */
  tokens(samples: Uint32Array): number {
    return samples.reduce((sum, sample) => sum + this.sourceLength(sample) + this.targetLength(sample), 0);
  }

  private sample(index: number): ReadSample {
    const sample = this.samples[index];
    invariant(sample !== undefined, `sample ${index} is one of ${this.count}`);
    return sample;
  }
}

interface ReadTokens {
  readonly ids: Int32Array;
  readonly cut: boolean;
}

interface ReadSample {
  readonly id: string;
  readonly source: ReadTokens;
  readonly target: ReadTokens;
}

async function readSample(sample: DatasetSample, reading: SampleReading): Promise<ReadSample> {
  const [source, target] = await Promise.all([readSource(sample, reading), readTarget(sample, reading)]);
  return { id: sample.id, source, target };
}

/** The prompt of serving, its dialogue cut where it is too long: the instruction and the cue stay. */
async function readSource({ text }: DatasetSample, reading: SampleReading): Promise<ReadTokens> {
  const { tokenizer, frame, config, maxSourceTokens } = reading;
  const maxInputTokens = Math.min(config.maxInputTokens, maxSourceTokens);
  const whole = await tokenizer.encode(frame.before + text + frame.after, frame);
  // a prompt of nothing but an empty dialogue: a model reads its end
  if (whole.length === 0) return { ids: Int32Array.of(endOf(config)), cut: false };
  if (whole.length <= maxInputTokens) return { ids: Int32Array.from(whole), cut: false };
  const fitted = await fitDialogue({ tokenizer, maxInputTokens }, frame, text, true);
  return { ids: Int32Array.from(await tokenizer.encode(fitted.text, frame)), cut: true };
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
