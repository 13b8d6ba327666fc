/**
 * One ONNX Runtime session: a graph that can be run. Inputs are read in place, outputs are copied out of the runtime
 * (onnxruntime-node 1.30.0), and a run blocks its thread: sessions live in worker threads.
 */
import { env, InferenceSession, Tensor } from 'onnxruntime-node';
import { invariant } from './errors.ts';
import { IN_PLACE_MARKER } from './graph/graph-builder.ts';
import type { OnnxModel } from './graph/model-proto.ts';
import { elementTypeOf, type TensorValue } from './tensor.ts';

export const runtimeVersion = env.versions.node ?? 'unknown';

export type Feeds = Readonly<Record<string, TensorValue>>;

export interface SessionOptions {
  /** Threads that one operator may use. */
  readonly threadCount: number;
  /** Default: the processor. */
  readonly device?: 'cpu' | 'cuda';
  /** Path prefix of a profile to write; absent: none. */
  readonly profilePrefix?: string;
  /**
   * Whether the memory of a run is laid out once for each shape of inputs, and taken as one block from then on. It takes
   * less time where runs are short, and more memory where they are large. Default true.
   */
  readonly memoryPattern?: boolean;
}

/**
 * How long a session's threads wait for the next operator by spinning. A worker's sessions take turns: threads of the
 * one that spin (by default for milliseconds) take the processors from the other. Shorter lost nothing measurable.
 */
const SPIN_MICROSECONDS = '50';

/** How the binding begins to say that an output is not a tensor. */
const MARKER_REFUSED = 'Non tensor type';

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

  /** What goes into the key/value cache: float32, or bytes where it is in 8 bits. */
  cached(name: string): Float32Array | Uint8Array {
    const data = this.tensors[name]?.data;
    invariant(data instanceof Float32Array || data instanceof Uint8Array, `output ${name} is float32 or uint8`);
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
      executionProviders: options.device === 'cuda' ? ['cuda', 'cpu'] : ['cpu'],
      intraOpNumThreads: options.threadCount,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      enableMemPattern: options.memoryPattern ?? true,
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
    return new SessionOutputs(await this.session.run(this.inputs(feeds), outputNames));
  }

  private inputs(feeds: Feeds): Record<string, Tensor> {
    const inputs: Record<string, Tensor> = {};
    for (const name of this.session.inputNames) {
      const value = feeds[name];
      invariant(value !== undefined, `input ${name} is fed`);
      inputs[name] = toOrt(value);
    }
    return inputs;
  }

  /**
   * Runs a graph made with `writeInPlace`, which writes the outputs into `outputs`; those that are not listed are not
   * kept. onnxruntime takes arrays for its outputs, but the Node binding then copies each into an array of its own,
   * which took as long as a tenth of a step of full training. It converts outputs in order after the run, and gives up
   * at the first that is not a tensor: the marker, so that nothing is copied.
   */
  async runInto(feeds: Feeds, outputs: Readonly<Record<string, TensorValue>>): Promise<void> {
    invariant(this.session.outputNames[0] === IN_PLACE_MARKER, 'the graph was made to write in place');
    const fetches: Record<string, Tensor | null> = { [IN_PLACE_MARKER]: null };
    for (const [name, value] of Object.entries(outputs)) fetches[name] = toOrt(value);
    try {
      await this.session.run(this.inputs(feeds), fetches);
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith(MARKER_REFUSED))) throw error;
    }
  }

  async dispose(): Promise<void> {
    await this.session.release();
  }

  /** Writes the profile that was asked for at creation. */
  endProfiling(): void {
    this.session.endProfiling();
  }
}
