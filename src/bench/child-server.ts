/** The real server as a process of its own, on a free port, with the probe in it. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { ProbeQuestion, ProbeReading } from './event-loop-probe.ts';

/** Beyond this a server that was asked to stop waits for something that never ends. */
const STOP_TIMEOUT_MS = 30_000;
/** Beyond this the main thread of a server does not turn any more. */
const ANSWER_TIMEOUT_MS = 30_000;

/** Our modules as they run: compiled, or from source under a loader of TypeScript. */
const EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js';

const EXITED_WELL = 'exit code 0';

/** Waits for an answer of the probe. */
interface Reader {
  readonly resolve: (reading: ProbeReading) => void;
  readonly reject: (error: Error) => void;
}

export class ChildServer {
  /** Resolves with how the process ended. */
  readonly exited: Promise<string>;
  private readonly readers = new Map<number, Reader>();
  private questionCount = 0;
  private stopped: Promise<string | undefined> | undefined;

  private constructor(
    private readonly child: ChildProcess,
    readonly url: string,
  ) {
    this.exited = exitOf(child);
    child.on('message', (reading: ProbeReading) => this.readers.get(reading.id)?.resolve(reading));
    void this.exited.then((how) => {
      for (const { reject } of this.readers.values()) reject(new Error(`The server ended (${how}).`));
    });
  }

  /** Resolves when the server could make a summary. Settings are those of the environment; a source overrides its model. */
  static async start(modelSource: string | undefined, signal: AbortSignal): Promise<ChildServer> {
    const probe = new URL(`./event-loop-probe${EXTENSION}`, import.meta.url).href;
    const child = fork(new URL(`../main${EXTENSION}`, import.meta.url), {
      env: {
        GISTQL_LOG_LEVEL: 'warn',
        ...process.env,
        ...(modelSource === undefined ? {} : { GISTQL_MODEL: modelSource }),
        HOST: '127.0.0.1',
        PORT: '0',
      },
      execArgv: [...process.execArgv, '--import', probe],
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
      // a process group of its own: Ctrl-C reaches us alone, and we stop it when its requests are answered
      detached: true,
    });
    try {
      const url = await Promise.race([bannerUrl(child, signal), failWhenEnded(child)]);
      const { status } = await fetch(`${url}/health/ready`, { signal });
      if (status !== 200) throw new Error(`Expected a server that is ready, /health/ready says ${status}.`);
      return new ChildServer(child, url);
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    }
  }

  /** Rejects when the server ends before it answers, or does not answer. */
  read({ restart }: Pick<ProbeQuestion, 'restart'>): Promise<ProbeReading> {
    this.questionCount++;
    const question: ProbeQuestion = { id: this.questionCount, restart };
    return new Promise<ProbeReading>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('The server does not answer its probe.')), ANSWER_TIMEOUT_MS);
      const settled =
        <T>(settle: (value: T) => void) =>
        (value: T) => {
          clearTimeout(timer);
          settle(value);
        };
      this.readers.set(question.id, { resolve: settled(resolve), reject: settled(reject) });
      this.child.send(question, (error) => {
        if (error) this.readers.get(question.id)?.reject(error);
      });
    }).finally(() => this.readers.delete(question.id));
  }

  /** Ends the process; returns what was wrong with how it ended, undefined when nothing was. */
  stop(): Promise<string | undefined> {
    this.stopped ??= this.terminate();
    return this.stopped;
  }

  private async terminate(): Promise<string | undefined> {
    this.child.kill('SIGTERM');
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.child.kill('SIGKILL');
    }, STOP_TIMEOUT_MS);
    const how = await this.exited;
    clearTimeout(timer);
    if (isLate) return `The server did not end within ${STOP_TIMEOUT_MS / 1000} s of SIGTERM.`;
    return how === EXITED_WELL ? undefined : `The server ended with ${how}, expected ${EXITED_WELL}.`;
  }
}

async function exitOf(child: ChildProcess): Promise<string> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return child.signalCode === null ? `exit code ${child.exitCode}` : `signal ${child.signalCode}`;
}

async function failWhenEnded(child: ChildProcess): Promise<never> {
  throw new Error(`Expected a server that starts, it ended with ${await exitOf(child)}.`);
}

/** The address in the one line that a server prints when it listens. */
async function bannerUrl(child: ChildProcess, signal: AbortSignal): Promise<string> {
  if (child.stdout === null) throw new Error('Expected a pipe to the server.');
  const [line] = (await once(createInterface({ input: child.stdout }), 'line', { signal })) as [string];
  const [url] = /http:\/\/[^/\s]+/.exec(line) ?? [];
  if (url === undefined) throw new Error(`Expected the address of the server, ${JSON.stringify(line)} came.`);
  return url;
}
