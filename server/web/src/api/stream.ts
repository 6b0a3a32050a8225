// Live streams: server-sent events over `fetch`, which can say by which id to go on and sees why it is refused.

import { address, ApiError, errorOf, unreachable } from './client.ts';
import { EventParser, type ServerEvent } from './parser.ts';

/** `paused`: nobody looks at the page, so no connection is held. */
export type StreamState = 'connecting' | 'open' | 'lost' | 'paused' | 'ended';

export interface Follower {
  event(event: ServerEvent): void;
  /** A connection is there, at first or anew. */
  opened?(): void;
  state?(state: StreamState, retryAt?: number): void;
  /** The server will not give this stream: there is no use in asking again. */
  refused?(error: ApiError): void;
}

export interface FollowOptions {
  query?: Record<string, string | number | undefined>;
  /** Goes on behind the last id after a cut; else the stream begins anew. */
  resume?: boolean;
}

const SHORTEST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;
/** Once a server has shown that it sends comments, so long a silence means that the connection is dead. */
const SILENCE = 25_000;
/** A page that nobody has seen for so long lets its connections go: a browser has few of them for each server. */
const HIDDEN = 20_000;

/** How long to wait before the next try: longer each time, and not all pages at once. */
export function pause(tries: number, random = Math.random()): number {
  const longest = Math.min(LONGEST_PAUSE, SHORTEST_PAUSE * 2 ** Math.min(tries, 10));
  return Math.round(longest * (0.5 + random / 2));
}

export class Stream {
  #lastId = '';
  #tries = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #hiding: ReturnType<typeof setTimeout> | undefined;
  #connection: AbortController | undefined;
  #state: StreamState = 'connecting';

  constructor(
    private readonly path: string,
    private readonly follower: Follower,
    private readonly options: FollowOptions = {},
  ) {
    document.addEventListener('visibilitychange', this.#look);
    window.addEventListener('online', this.retry);
    if (document.visibilityState === 'hidden') this.#look();
    void this.#connect();
  }

  /** Tries again at once, if the connection is lost. */
  retry = (): void => {
    if (this.#state !== 'lost') return;
    clearTimeout(this.#timer);
    void this.#connect();
  };

  stop(): void {
    document.removeEventListener('visibilitychange', this.#look);
    window.removeEventListener('online', this.retry);
    clearTimeout(this.#timer);
    clearTimeout(this.#hiding);
    this.#enter('ended');
    this.#connection?.abort();
  }

  #enter(state: StreamState, retryAt?: number): void {
    if (this.#state === 'ended') return;
    this.#state = state;
    this.follower.state?.(state, retryAt);
  }

  #look = (): void => {
    clearTimeout(this.#hiding);
    if (document.visibilityState === 'hidden') {
      this.#hiding = setTimeout(() => {
        clearTimeout(this.#timer);
        this.#enter('paused');
        this.#connection?.abort();
      }, HIDDEN);
    } else if (this.#state === 'paused') {
      void this.#connect();
    } else {
      this.retry();
    }
  };

  async #connect(): Promise<void> {
    const connection = new AbortController();
    this.#connection = connection;
    this.#enter('connecting');
    let failure: ApiError | undefined;
    try {
      await this.#read(connection);
    } catch (error) {
      failure = error instanceof ApiError ? error : unreachable();
    }
    connection.abort();
    // Another connection may have begun meanwhile, or none is wanted any more.
    if (this.#connection !== connection || this.#state === 'paused' || this.#state === 'ended') return;
    if (failure && isFinal(failure)) {
      this.stop();
      this.follower.refused?.(failure);
      return;
    }
    const wait = (failure?.retryAfter ?? 0) * 1000 || pause(this.#tries++);
    this.#enter('lost', Date.now() + wait);
    this.#timer = setTimeout(() => void this.#connect(), wait);
  }

  async #read(connection: AbortController): Promise<void> {
    const headers: Record<string, string> = { accept: 'text/event-stream' };
    if (this.options.resume && this.#lastId) headers['last-event-id'] = this.#lastId;
    const asked = address(this.path, { ...this.options.query, follow: true });
    const response = await fetch(asked, {
      headers,
      signal: connection.signal,
      credentials: 'same-origin',
      cache: 'no-store',
    });
    if (!response.ok || !response.body) throw await errorOf(response);

    const parser = new EventParser(this.options.resume ? this.#lastId : '');
    const text = response.body.pipeThrough(new TextDecoderStream()).getReader();
    this.#enter('open');
    this.follower.opened?.();
    let silence: ReturnType<typeof setTimeout> | undefined;
    try {
      for (;;) {
        const { done, value } = await text.read();
        if (done) return;
        clearTimeout(silence);
        for (const event of parser.feed(value)) this.follower.event(event);
        this.#lastId = parser.lastId;
        // Something came: the next failure is a new one.
        this.#tries = 0;
        if (parser.comments > 0) silence = setTimeout(() => connection.abort(), SILENCE);
      }
    } finally {
      clearTimeout(silence);
    }
  }
}

/** Whether asking again can't help: what is asked for is wrong, gone or forbidden. */
function isFinal(error: ApiError): boolean {
  return error.status >= 400 && error.status < 500 && error.status !== 408 && error.status !== 429;
}
