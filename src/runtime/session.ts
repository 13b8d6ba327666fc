/**
 * One ONNX Runtime session: a graph that can be run. Inputs are read in place, outputs are copied out of the runtime
 * (onnxruntime-node 1.30.0), and a run blocks its thread: sessions live in worker threads.
 */
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { invariant } from './errors.ts';
import type { OnnxModel } from './graph/model-proto.ts';
import type { TensorValue } from './tensor.ts';

export type Feeds = Readonly<Record<string, TensorValue>>;

export interface SessionOptions {
  /** Threads that one operator may use. */
  readonly threadCount: number;
  /** Path prefix of a profile to write; absent: none. */
  readonly profilePrefix?: string;
}

function toOrt(value: TensorValue): Tensor {
  const { data, dims } = value;
  if (data instanceof Float32Array) return new Tensor('float32', data, dims);
  if (data instanceof Int32Array) return new Tensor('int32', data, dims);
  return new Tensor('int64', data, dims);
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
