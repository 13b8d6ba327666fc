/**
 * One ONNX Runtime session: a graph that can be run. Inputs are read in place, outputs are copied out of the runtime
 * (onnxruntime-node 1.30.0), and a run blocks its thread: sessions live in worker threads.
 */
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { invariant } from './errors.ts';
import type { OnnxModel } from './graph/model-proto.ts';
import { elementTypeOf, type TensorValue } from './tensor.ts';

export type Feeds = Readonly<Record<string, TensorValue>>;

export interface SessionOptions {
  /** Threads that one operator may use. */
  readonly threadCount: number;
  /** Path prefix of a profile to write; absent: none. */
  readonly profilePrefix?: string;
}

/**
 * How long a session's threads wait for the next operator by spinning. A worker's sessions take turns: threads of the
 * one that spin (by default for milliseconds) take the processors from the other. Shorter lost nothing measurable.
 */
const SPIN_MICROSECONDS = '50';

function toOrt({ data, dims }: TensorValue): Tensor {
  return new Tensor(elementTypeOf(data), data, dims);
}

/** What a run gave: the caller owns the arrays. */
export class SessionOutputs {
  constructor(private readonly tensors: Readonly<Record<string, Tensor>>) {}

  floats(name: string): Float32Array {
    const data = this.tensors[name]?.data;
    invariant(data instanceof Float32Array, `output ${name} is float32`);
    return data;
  }

  ints(name: string): Int32Array {
    const data = this.tensors[name]?.data;
    invariant(data instanceof Int32Array, `output ${name} is int32`);
    return data;
  }
}

export class Session {
  private constructor(private readonly session: InferenceSession) {}

  static async create(model: OnnxModel, options: SessionOptions): Promise<Session> {
    const session = await InferenceSession.create(model.bytes, {
      executionProviders: ['cpu'],
      intraOpNumThreads: options.threadCount,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      logSeverityLevel: 3,
      extra: { session: { intra_op: { spin_duration_us: SPIN_MICROSECONDS } } },
      externalData: [...model.externalData],
      ...(options.profilePrefix === undefined
        ? {}
        : { enableProfiling: true, profileFilePrefix: options.profilePrefix }),
    });
    return new Session(session);
  }

  /** Runs the graph and copies out the outputs that `outputNames` lists. */
  async run(feeds: Feeds, outputNames: readonly string[]): Promise<SessionOutputs> {
    const inputs: Record<string, Tensor> = {};
    for (const name of this.session.inputNames) {
      const value = feeds[name];
      invariant(value !== undefined, `input ${name} is fed`);
      inputs[name] = toOrt(value);
    }
    return new SessionOutputs(await this.session.run(inputs, outputNames));
  }

  async dispose(): Promise<void> {
    await this.session.release();
  }

  /** Writes the profile that was asked for at creation. */
  endProfiling(): void {
    this.session.endProfiling();
  }
}
