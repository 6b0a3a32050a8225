// Server-sent events of the stand-in.

import type { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';

const KEPT_ALIVE = 10_000;

function begin(
  request: IncomingMessage,
  response: ServerResponse,
  emitter: EventEmitter,
  name: string,
  listener: (item: unknown) => void,
): void {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  response.flushHeaders();
  const alive = setInterval(() => response.write(':\n\n'), KEPT_ALIVE);
  emitter.on(name, listener);
  request.on('close', () => {
    clearInterval(alive);
    emitter.off(name, listener);
  });
}

/** What there is, then perhaps a word that this was all, then each change. */
export function follow(
  request: IncomingMessage,
  response: ServerResponse,
  emitter: EventEmitter,
  name: string,
  event: string,
  first: unknown[],
  then?: string,
  wanted: (item: unknown) => boolean = () => true,
): void {
  const write = (item: unknown) => void response.write(`event: ${event}\ndata: ${JSON.stringify(item)}\n\n`);
  begin(request, response, emitter, name, (item) => wanted(item) && write(item));
  first.forEach(write);
  if (then) response.write(`event: ${then}\ndata: {}\n\n`);
}

/** A list that grows at its end: goes on behind the id that the client names. */
export function followList<T extends { id: number; device?: string }>(
  request: IncomingMessage,
  response: ServerResponse,
  emitter: EventEmitter,
  name: string,
  all: T[],
  query: URLSearchParams,
): void {
  const device = query.get('device');
  const after = Number(request.headers['last-event-id'] ?? query.get('after') ?? 0);
  const isWanted = (row: T) => row.id > after && (!device || row.device === device);
  const write = (row: T) => void response.write(`id: ${row.id}\ndata: ${JSON.stringify(row)}\n\n`);
  begin(request, response, emitter, name, (row) => isWanted(row as T) && write(row as T));
  all.filter(isWanted).forEach(write);
}
