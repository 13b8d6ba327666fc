/** A process that speaks the protocol of src/bench/protocol.ts: our own side of a comparison, or a peer. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';

export interface Ready {
  readonly name: string;
  readonly version: string;
  readonly precision: string;
}

export interface Answer {
  readonly id: number;
  readonly seconds: number;
  readonly tokens: readonly (readonly number[])[];
  readonly firstTokenSeconds?: number;
  /** Why there are no tokens. */
  readonly unsupported?: string;
}

export interface ProcessOptions {
  readonly command: readonly string[];
  /** Beside the environment that there is. */
  readonly environment?: Readonly<Record<string, string>>;
  /** File that takes what it writes to stderr; absent: nothing does. */
  readonly log?: string;
}

export class ProtocolProcess {
  private readonly lines: AsyncIterator<string>;
  private readonly child: ChildProcess;

  private constructor(
    readonly name: string,
    { command, environment = {}, log }: ProcessOptions,
  ) {
    const [program = '', ...args] = command;
    const stdio = ['pipe', 'pipe', log === undefined ? 'ignore' : 'pipe'] as const;
    this.child = spawn(program, args, { stdio: [...stdio], env: { ...process.env, ...environment } });
    const { stdin, stdout, stderr } = this.child;
    if (stdin === null || stdout === null) throw new Error('expected pipes');
    // what ended is noticed where an answer is awaited
    stdin.on('error', () => {});
    this.child.on('error', () => {});
    if (log !== undefined) stderr?.pipe(createWriteStream(log));
    this.lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  }

  /** Resolves when it is ready, with what it says of itself. */
  static async start(name: string, options: ProcessOptions): Promise<{ process: ProtocolProcess; ready: Ready }> {
    const process = new ProtocolProcess(name, options);
    return { process, ready: (await process.next()) as Ready };
  }

  async ask<T = Answer>(request: object): Promise<T> {
    this.child.stdin?.write(`${JSON.stringify(request)}\n`);
    return (await this.next()) as T;
  }

  stop(): void {
    this.child.stdin?.end(`${JSON.stringify({ quit: true })}\n`);
  }

  private async next(): Promise<unknown> {
    for (;;) {
      const { done, value } = await this.lines.next();
      if (done === true) throw new Error(`${this.name} ended`);
      if (value.startsWith('{')) return JSON.parse(value);
    }
  }
}
