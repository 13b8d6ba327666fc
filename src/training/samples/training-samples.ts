/** The samples of a split as tokens, all in memory. */
import type { DatasetSelection } from '../../runtime/datasets/dataset-selection.ts';
import { invariant, RuntimeError } from '../../runtime/errors.ts';
import type { TrainingExample } from '../graph/padded-batch.ts';
import type { SampleLengths } from './batch-plan.ts';
import { readSampleTokens, type SampleReading, type SampleTokens } from './sample-tokens.ts';

/** Samples that are tokenized at a time. */
const READ_TOGETHER = 64;

export class TrainingSamples implements SampleLengths {
  private constructor(
    private readonly samples: readonly ReadSample[],
    /** Whether a summary is read behind its prompt, not apart from it. */
    private readonly areContinued: boolean,
  ) {}

  /** Reads everything; of several references the first. Throws RuntimeError INVALID_DATASET, and when nothing is selected. */
  static async read(selection: DatasetSelection, reading: SampleReading): Promise<TrainingSamples> {
    const read: ReadSample[] = [];
    let together: Promise<ReadSample>[] = [];
    for await (const sample of selection.samples()) {
      together.push(readSampleTokens(sample, reading).then((tokens) => ({ id: sample.id, ...tokens })));
      if (together.length < READ_TOGETHER) continue;
      read.push(...(await Promise.all(together)));
      together = [];
    }
    read.push(...(await Promise.all(together)));
    if (read.length === 0) {
      const message = `Expected samples in ${selection.dataset.id}/${selection.split}, none came. Choose a split that has some.`;
      throw new RuntimeError('INVALID_DATASET', message);
    }
    return new TrainingSamples(read, reading.config.family !== 't5');
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

  get longestInput(): number {
    return this.samples.reduce((most, _, sample) => Math.max(most, this.inputLength(sample)), 0);
  }

  get longestTarget(): number {
    return this.samples.reduce((most, { target }) => Math.max(most, target.ids.length), 0);
  }

  inputLength(sample: number): number {
    const source = this.sample(sample).source.ids.length;
    return this.areContinued ? source + this.targetLength(sample) - 1 : source;
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
    return samples.reduce((sum, sample) => sum + this.sample(sample).source.ids.length + this.targetLength(sample), 0);
  }

  private sample(index: number): ReadSample {
    const sample = this.samples[index];
    invariant(sample !== undefined, `sample ${index} is one of ${this.count}`);
    return sample;
  }
}

interface ReadSample extends SampleTokens {
  readonly id: string;
}
