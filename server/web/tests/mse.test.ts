import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { ScreenEvents } from '../src/video/screen.ts';

/** What a browser has for MSE, as far as the screen uses it. */
class Pieces extends EventTarget {
  updating = false;
  appended = 0;
  removed: number[] = [];
  isFull = false;
  start = 0;
  end = 0;
  get buffered() {
    return { length: this.end > 0 ? 1 : 0, start: () => this.start, end: () => this.end };
  }
  appendBuffer(piece: Uint8Array) {
    if (this.isFull) throw new DOMException('no room', 'QuotaExceededError');
    this.appended += piece.length;
  }
  remove(_from: number, to: number) {
    this.removed.push(to);
    this.start = to;
  }
}

class Source extends EventTarget {
  readyState = 'open';
  addSourceBuffer() {
    return buffer;
  }
}

let buffer: Pieces;
let element: { buffered: Pieces['buffered']; currentTime: number; [name: string]: unknown };
let source: Source;
let ends: unknown[];
let push: (piece: Uint8Array) => void;

beforeEach(() => {
  vi.useFakeTimers();
  vi.resetModules();
  buffer = new Pieces();
  ends = [];
  const nothing = () => {};
  element = {
    get buffered() {
      return buffer.buffered;
    },
    currentTime: 0,
    playbackRate: 1,
    paused: false,
    removeAttribute: nothing,
    load: nothing,
    getVideoPlaybackQuality: () => ({ totalVideoFrames: 1, droppedVideoFrames: 0 }),
  };
  vi.stubGlobal('document', { createElement: () => element });
  vi.stubGlobal(
    'MediaSource',
    class extends Source {
      constructor() {
        super();
        source = this;
      }
    },
  );
  vi.spyOn(URL, 'createObjectURL').mockReturnValue('blob:x');
  vi.spyOn(URL, 'revokeObjectURL').mockReturnValue();
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => void (push = (piece) => controller.enqueue(piece)),
  });
  vi.stubGlobal('fetch', async () => new Response(body, { headers: { 'content-type': 'video/mp4' } }));
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

async function begin() {
  const { MseScreen } = await import('../src/video/mse-screen.ts');
  const events: ScreenEvents = { shown: () => {}, figures: () => {}, ended: (end) => ends.push(end) };
  const screen = new MseScreen('porch', 'door', events);
  source.dispatchEvent(new Event('sourceopen'));
  return screen;
}

test('silence of a stream from which something has come is a lost connection', async () => {
  const screen = await begin();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(ends).toEqual([]);
  push(new Uint8Array(100));
  await vi.advanceTimersByTimeAsync(19_000);
  expect(buffer.appended).toBe(100);
  push(new Uint8Array(100));
  await vi.advanceTimersByTimeAsync(19_000);
  expect(ends).toEqual([]);
  await vi.advanceTimersByTimeAsync(2000);
  expect(ends).toEqual([undefined]);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(ends.length).toBe(1);
  screen.stop();
});

test('what waits to be shown is bounded', async () => {
  await begin();
  buffer.updating = true;
  for (let piece = 0; piece < 9 && ends.length === 0; piece += 1) {
    push(new Uint8Array(1024 * 1024));
    await vi.advanceTimersByTimeAsync(100);
  }
  expect(ends).toEqual([undefined]);
});

test('what was shown makes room first, and where there is none it begins anew', async () => {
  const screen = await begin();
  [buffer.end, element.currentTime] = [100, 99];
  push(new Uint8Array(100));
  await vi.advanceTimersByTimeAsync(50);
  expect([buffer.removed, buffer.appended]).toEqual([[89], 0]);
  buffer.dispatchEvent(new Event('updateend'));
  expect([buffer.removed, buffer.appended]).toEqual([[89], 100]);
  buffer.isFull = true;
  push(new Uint8Array(100));
  await vi.advanceTimersByTimeAsync(50);
  expect(ends).toEqual([undefined]);
  screen.stop();
});
