import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { pause, Stream, type StreamState } from '../src/api/stream.ts';

/** A server whose answers the test hands out. */
class Server {
  asked: { url: string; headers: Record<string, string>; signal: AbortSignal }[] = [];
  #answers: (() => Response)[] = [];

  fetch = (url: string, options: { headers: Record<string, string>; signal: AbortSignal }): Promise<Response> => {
    this.asked.push({ url, ...options });
    const answer = this.#answers.shift();
    return answer ? Promise.resolve(answer()) : Promise.reject(new TypeError('no connection'));
  };

  /** Answers the next request with a stream that stays open. */
  streams(): (text: string | null) => void {
    let push: (text: string | null) => void = () => {};
    const body = new ReadableStream<Uint8Array>({
      start: (controller) =>
        (push = (text) => (text === null ? controller.close() : controller.enqueue(new TextEncoder().encode(text)))),
    });
    this.#answers.push(() => new Response(body));
    return (text) => push(text);
  }

  answers(status: number, body: unknown, headers: Record<string, string> = {}): void {
    this.#answers.push(() => new Response(JSON.stringify(body), { status, headers }));
  }
}

let server: Server;
let states: StreamState[];
let visibility: DocumentVisibilityState;
let listeners: Record<string, () => void>;

beforeEach(() => {
  vi.useFakeTimers();
  server = new Server();
  states = [];
  listeners = {};
  visibility = 'visible';
  const target = {
    addEventListener: (name: string, listener: () => void) => (listeners[name] = listener),
    removeEventListener: (name: string) => delete listeners[name],
  };
  vi.stubGlobal('fetch', server.fetch);
  vi.stubGlobal('window', target);
  vi.stubGlobal('document', {
    ...target,
    get visibilityState() {
      return visibility;
    },
  });
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function follow(resume = false): { stream: Stream; data: string[]; refusals: string[] } {
  const data: string[] = [];
  const refusals: string[] = [];
  const follower = {
    event: (event: { data: string }) => data.push(event.data),
    state: (state: StreamState) => states.push(state),
    refused: (error: { code: string }) => refusals.push(error.code),
  };
  return { stream: new Stream('/messages', follower, { resume, query: { device: 'a' } }), data, refusals };
}

test('after a cut it comes back, and goes on behind the last id', async () => {
  const first = server.streams();
  const { stream, data } = follow(true);
  await vi.waitFor(() => expect(states.at(-1)).toBe('open'));
  expect(server.asked[0]?.url).toBe('/api/v1/messages?device=a&follow=true');
  first('id: 5\ndata: five\n\n');
  await vi.waitFor(() => expect(data).toEqual(['five']));

  const second = server.streams();
  first(null);
  await vi.waitFor(() => expect(states.at(-1)).toBe('lost'));
  await vi.advanceTimersByTimeAsync(600);
  expect(server.asked[1]?.headers['last-event-id']).toBe('5');
  second('id: 6\ndata: six\n\n');
  await vi.waitFor(() => expect(data).toEqual(['five', 'six']));
  stream.stop();
  expect(states.at(-1)).toBe('ended');
});

test('while nobody answers it asks less and less often', async () => {
  const { stream } = follow();
  await vi.advanceTimersByTimeAsync(120_000);
  expect(server.asked.length).toBeGreaterThan(8);
  expect(server.asked.length).toBeLessThan(22);
  const asked = server.asked.length;
  stream.stop();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(server.asked.length).toBe(asked);
});

test('a button and the network coming back try at once', async () => {
  const { stream } = follow();
  await vi.waitFor(() => expect(states.at(-1)).toBe('lost'));
  const asked = server.asked.length;
  server.streams();
  stream.retry();
  await vi.waitFor(() => expect(states.at(-1)).toBe('open'));
  expect(server.asked.length).toBe(asked + 1);
  stream.stop();
});

test('a refusal is final, a server that is busy is not', async () => {
  server.answers(503, { error: { code: 'too-many-streams', message: 'full' } }, { 'retry-after': '3' });
  server.answers(403, { error: { code: 'denied', message: 'no' } });
  const { refusals } = follow();
  await vi.waitFor(() => expect(states.at(-1)).toBe('lost'));
  await vi.advanceTimersByTimeAsync(2900);
  expect(server.asked.length).toBe(1);
  await vi.advanceTimersByTimeAsync(200);
  expect(refusals).toEqual(['denied']);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(server.asked.length).toBe(2);
});

test('silence of a server that has sent comments is a lost connection', async () => {
  const first = server.streams();
  const { stream } = follow();
  await vi.waitFor(() => expect(states.at(-1)).toBe('open'));
  await vi.advanceTimersByTimeAsync(300_000);
  expect(states.at(-1)).toBe('open');
  first(':\n\n');
  await vi.advanceTimersByTimeAsync(24_000);
  expect(states.at(-1)).toBe('open');
  await vi.advanceTimersByTimeAsync(2000);
  expect(server.asked[0]?.signal.aborted).toBe(true);
  stream.stop();
});

test('a page that nobody sees lets its connection go, and is back when it is seen', async () => {
  server.streams();
  const { stream } = follow();
  await vi.waitFor(() => expect(states.at(-1)).toBe('open'));
  visibility = 'hidden';
  listeners.visibilitychange?.();
  await vi.advanceTimersByTimeAsync(21_000);
  expect(states.at(-1)).toBe('paused');
  expect(server.asked[0]?.signal.aborted).toBe(true);
  server.streams();
  visibility = 'visible';
  listeners.visibilitychange?.();
  await vi.waitFor(() => expect(states.at(-1)).toBe('open'));
  stream.stop();
});

test('pauses grow to a bound', () => {
  expect(pause(0, 0)).toBe(250);
  expect(pause(0, 1)).toBe(500);
  expect(pause(3, 1)).toBe(4000);
  expect(pause(1000, 1)).toBe(15_000);
});
