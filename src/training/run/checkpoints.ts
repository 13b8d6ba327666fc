/**
 * The checkpoints of a run: one file with all that changes while it goes on (weights that are trained, AdamW's moments,
 * the step), and one with the weights that were best on the validation samples. The order of the data and everything
 * random are functions of seed and step. Each file is replaced whole or not at all.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { RuntimeError } from '../../runtime/errors.ts';
import { findFile } from '../../storage/bounded-file.ts';
import { SafetensorsFile, type TensorToWrite, writeSafetensors } from '../../storage/safetensors.ts';
import type { Moments } from '../optimizer/adamw.ts';

interface BestWeights {
  readonly step: number;
  readonly loss: number;
}

export interface CheckpointState {
  /** Steps done. */
  readonly step: number;
  /** The last step whose weights have been looked at with the validation samples; 0: none. */
  readonly validated: number;
  readonly best: BestWeights | undefined;
}

/** Arrays that checkpoints are made of and read into. */
export interface CheckpointArrays {
  readonly trained: ReadonlyMap<string, Float32Array>;
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  readonly moments: ReadonlyMap<string, Moments>;
}

const LAST = 'last.safetensors';
const BEST = 'best.safetensors';
const MEAN = 'exp_avg/';
const SQUARE = 'exp_avg_sq/';

export class Checkpoints {
  private constructor(
    private readonly folder: string,
    /** Of the plan and of what it reads: a checkpoint of anything else is not taken up. */
    private readonly origin: string,
    private readonly arrays: CheckpointArrays,
  ) {}

  static async open(folder: string, origin: string, arrays: CheckpointArrays): Promise<Checkpoints> {
    await mkdir(folder, { recursive: true });
    // what a process that was ended left half-written
    for (const name of await readdir(folder)) if (name.endsWith('.part')) await rm(join(folder, name), { force: true });
    return new Checkpoints(folder, origin, arrays);
  }

  /** Fills the arrays; undefined: there is none. Throws RuntimeError CONFLICT when it is one of other data or weights. */
  async restore(): Promise<CheckpointState | undefined> {
    const file = await this.openFile(LAST);
    if (file === undefined) return undefined;
    try {
      const { origin, state } = file.metadata;
      if (origin !== this.origin || state === undefined) {
        const message = `Expected the model and the dataset that the training began with, others came since its last checkpoint. Put back the files, or start another training.`;
        throw new RuntimeError('CONFLICT', message);
      }
      for (const [name, tensor] of this.trainedAndMoments()) tensor.data.set(await file.read(name));
      return JSON.parse(state) as CheckpointState;
    } finally {
      await file.close();
    }
  }

  async save(state: CheckpointState): Promise<void> {
    const metadata = { format: 'pt', origin: this.origin, state: JSON.stringify(state) };
    await writeSafetensors(join(this.folder, LAST), this.trainedAndMoments(), metadata);
  }

  async saveBest(best: BestWeights): Promise<void> {
    const metadata = { format: 'pt', origin: this.origin, state: JSON.stringify(best) };
    await writeSafetensors(join(this.folder, BEST), this.trainedTensors(), metadata);
  }

  /** Reads the best weights into the arrays. */
  async restoreBest(): Promise<void> {
    const file = await SafetensorsFile.open(join(this.folder, BEST));
    try {
      for (const [name, data] of this.arrays.trained) data.set(await file.read(name));
    } finally {
      await file.close();
    }
  }

  private async openFile(name: string): Promise<SafetensorsFile | undefined> {
    const path = await findFile(this.folder, name);
    return path === undefined ? undefined : SafetensorsFile.open(path);
  }

  private trainedTensors(): Map<string, TensorToWrite> {
    const { trained, shapes } = this.arrays;
    return new Map([...trained].map(([name, data]) => [name, { shape: shapes.get(name) ?? [], data }]));
  }

  private trainedAndMoments(): ReadonlyMap<string, TensorToWrite> {
    const tensors = this.trainedTensors();
    for (const [name, { mean, square }] of this.arrays.moments) {
      const shape = this.arrays.shapes.get(name) ?? [];
      tensors.set(MEAN + name, { shape, data: mean }).set(SQUARE + name, { shape, data: square });
    }
    return tensors;
  }
}
