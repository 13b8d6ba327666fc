/** Runs a script over a hostile file in a process of its own, which has limits and no secrets to lose. */
import { spawn } from 'node:child_process';

interface ChildScript {
  /** Plain script: a child started from source would need the loader of TypeScript. What it says it writes to fd 3. */
  readonly script: string;
  /** Path of the library that it requires as `process.argv[1]`. */
  readonly library: string;
  /** What it reads on stdin. */
  readonly input: string;
  readonly timeoutMs: number;
  /** Of what it says; beyond it the process is ended. */
  readonly mostBytes: number;
  /** Default: what Node takes. */
  readonly memoryMb?: number;
}

export interface ScriptEnd {
  /** Null where it was ended by a signal. */
  readonly code: number | null;
  /** Whether it was ended, by its time or by its length. */
  readonly isKilled: boolean;
  readonly said: string;
  readonly isTooLong: boolean;
}

/** Rejects when no process can be started; however the script ends, it resolves. */
export async function runChildScript({
  script,
  library,
  input,
  timeoutMs,
  mostBytes,
  memoryMb,
}: ChildScript): Promise<ScriptEnd> {
  const limits = memoryMb === undefined ? [] : [`--max-old-space-size=${memoryMb}`];
  const child = spawn(process.execPath, [...limits, '-e', script, library], {
    stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
    env: { PATH: process.env.PATH ?? '' },
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
  });
  const pieces: Buffer[] = [];
  let length = 0;
  child.stdio[3]?.on('data', (piece: Buffer) => {
    length += piece.length;
    if (length <= mostBytes) pieces.push(piece);
    else child.kill('SIGKILL');
  });
  // a child that dies early closes the pipe under our hands; its exit tells the reason
  child.stdin?.on('error', () => {});
  child.stdin?.end(input);
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (...exit) => resolve(exit));
  });
  const said = Buffer.concat(pieces).toString();
  return { code, isKilled: signal === 'SIGKILL', said, isTooLong: length > mostBytes };
}
