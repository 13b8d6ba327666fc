/** The server as a process of its own, for tests that kill it. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Cleanup } from './cleanup.ts';
import { repositoryPath } from './oracle.ts';
import { TestServer } from './start-server.ts';

const QUIET = { PORT: '0', GISTQL_LOG_LEVEL: 'silent', GISTQL_THREADS: '2', GISTQL_DEVICE: 'cpu' };

export class ServerProcess extends TestServer {
  private constructor(
    private readonly child: ChildProcess,
    url: string,
  ) {
    super(url, () => this.end('SIGTERM'));
  }

  /** Resolves when it serves. It ends with the test at the latest. */
  static async start(t: Cleanup, environment: Readonly<Record<string, string>>): Promise<ServerProcess> {
    const child = spawn(process.execPath, ['--import', 'tsx', repositoryPath('src/main.ts')], {
      env: { ...process.env, ...QUIET, ...environment },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.after(() => child.kill('SIGKILL'));
    assert.ok(child.stdout !== null);
    const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
    const [url] = /http:\S+(?=\/graphql)/.exec(line) ?? [];
    assert.ok(url !== undefined, line);
    return new ServerProcess(child, url);
  }

  /** At once, whatever it does. */
  kill(): Promise<void> {
    return this.end('SIGKILL');
  }

  private async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exit = once(this.child, 'exit');
    this.child.kill(signal);
    await exit;
  }
}
