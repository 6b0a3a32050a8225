// A way to the server that carries what the server says as slowly as it is told to.

import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

export class SlowLink {
  /** Bytes a second that come from the server, for each connection. */
  rate = Infinity;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(to: string) {
    const { hostname, port } = new URL(to);
    this.#server = createServer((browser) => {
      const server = connect(Number(port), hostname);
      for (const socket of [browser, server]) {
        this.#sockets.add(socket);
        // Either may be cut at any time.
        socket.on('error', () => {});
        socket.on('close', () => {
          this.#sockets.delete(socket);
          browser.destroy();
          server.destroy();
        });
      }
      browser.pipe(server);
      void this.#carry(server, browser);
    });
  }

  /** Begins; gives where. */
  async start(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `https://localhost:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  async #carry(from: Socket, to: Socket): Promise<void> {
    try {
      for await (const bytes of from as AsyncIterable<Buffer>) {
        // Nothing more is read meanwhile: what the server has to send waits there.
        if (Number.isFinite(this.rate)) await pause((1000 * bytes.length) / this.rate);
        if (!to.write(bytes)) await once(to, 'drain');
      }
      to.end();
    } catch {
      to.destroy();
    }
  }
}
