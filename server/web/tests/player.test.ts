import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Player } from '../src/video/player.svelte.ts';

class Socket {
  static readonly OPEN = 1;
  readyState = Socket.OPEN;
  onopen: () => void = () => {};
  onclose: () => void = () => {};
  onmessage: (event: { data: unknown }) => void = () => {};
  constructor() {
    sockets.push(this);
  }
  send() {}
  close() {}

  says(message: object) {
    this.onmessage({ data: JSON.stringify(message) });
  }
  /** A keyframe. */
  shows() {
    this.says({ type: 'stream', codec: 'avc1.42e01e', width: 640, height: 480, framerate: 15 });
    this.onmessage({ data: new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x65]).buffer });
  }
  ends(code: string) {
    this.says({ type: 'end', code, message: 'the camera gives nothing' });
    this.onclose();
  }
}

class Decoder {
  static async isConfigSupported() {
    return { supported: true };
  }
  state = 'configured';
  decodeQueueSize = 0;
  constructor(private readonly events: { output: (frame: object) => void }) {}
  configure() {}
  close() {
    this.state = 'closed';
  }
  decode() {
    this.events.output({ displayWidth: 640, displayHeight: 480, timestamp: 0, close: () => {} });
  }
}

let sockets: Socket[];
let sunk: number;
let page: { hidden: boolean; pictureInPictureElement: unknown; [name: string]: unknown };
const last = () => sockets.at(-1) as Socket;

beforeEach(() => {
  vi.useFakeTimers();
  [sockets, sunk] = [[], 0];
  page = {
    hidden: false,
    pictureInPictureElement: null,
    exitPictureInPicture: async () => void (sunk += 1),
    addEventListener: () => {},
    removeEventListener: () => {},
    createElement: () => ({ width: 300, height: 150, getContext: () => null }),
  };
  vi.stubGlobal('document', page);
  vi.stubGlobal('location', { href: 'https://fleet.example.org/' });
  vi.stubGlobal('sessionStorage', { getItem: () => null });
  vi.stubGlobal('WebSocket', Socket);
  vi.stubGlobal('VideoDecoder', Decoder);
  vi.stubGlobal('EncodedVideoChunk', class {});
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

/** A camera that ends each time before there is a picture, until nobody asks again. */
async function fails(): Promise<number> {
  const before = sockets.length;
  for (let seen = 0; seen !== sockets.length && sockets.length < 100;) {
    seen = sockets.length;
    last().ends('camera-ended');
    await vi.advanceTimersByTimeAsync(600_000);
  }
  return sockets.length - before;
}

test('a camera that gives nothing is not asked for ever, but again when the device is back', async () => {
  const player = new Player('porch', 'door');
  player.start();
  expect(await fails()).toBe(4);
  expect(player.phase).toBe('ended');
  expect(player.end?.message).toBe('the camera gives nothing');
  player.again();
  expect(player.phase).toBe('lost');
  last().shows();
  expect(player.phase).toBe('live');
  expect(await fails()).toBe(4);
  player.start();
  expect(player.phase).toBe('starting');
  player.leave();
});

test('a picture that comes back is drawn where the one before was: it may float', async () => {
  const player = new Player('porch', 'door');
  player.start();
  last().shows();
  const { element } = player;
  page.pictureInPictureElement = {};
  for (let time = 0; time < 10; time += 1) {
    last().ends('stopping');
    expect(player.phase).toBe('lost');
    await vi.advanceTimersByTimeAsync(1000);
    last().shows();
    expect(player.phase).toBe('live');
    expect(player.element).toBe(element);
  }
  expect([sockets.length, sunk]).toEqual([11, 0]);
  player.leave();
  expect(sunk).toBe(1);
});
