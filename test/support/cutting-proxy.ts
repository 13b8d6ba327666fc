/** A proxy that drops connections without a word after so many bytes of the server's, in the middle of whatever it says. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { Cleanup } from './cleanup.ts';

export class CuttingProxy {
  /** Connections that were cut. */
  cutCount = 0;
  private readonly sockets = new Set<Socket>();

  private constructor(
    private readonly server: Server,
    private readonly target: URL,
    private readonly bytesOfNext: () => number,
  ) {
    server.on('connection', (client) => this.pass(client));
  }

  /** `bytesOfNext`: of the server's bytes that the next connection lets through. */
  static async start(t: Cleanup, target: string, bytesOfNext: () => number): Promise<CuttingProxy> {
    const server = createServer();
    const proxy = new CuttingProxy(server, new URL(target), bytesOfNext);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => proxy.close());
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  private pass(client: Socket): void {
    let left = this.bytesOfNext();
    const server = connect(Number(this.target.port), this.target.hostname);
    const end = (): void => {
      client.destroy();
      server.destroy();
      this.sockets.delete(client);
    };
    this.sockets.add(client);
    for (const socket of [client, server]) socket.on('error', end).on('close', end);
    client.pipe(server);
    server.on('data', (bytes) => {
      if (bytes.length <= left) {
        left -= bytes.length;
        client.write(bytes);
        return;
      }
      server.pause();
      this.cutCount++;
      // what is let through arrives, the rest never does
      client.write(bytes.subarray(0, left), end);
    });
  }

  private async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
    await once(this.server, 'close');
  }
}
