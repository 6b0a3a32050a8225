// Shows a camera by Media Source Extensions, where there are no WebCodecs: MP4 that comes by a request without end.

import { address, errorOf } from '../api/client.ts';
import { Boxes } from './boxes.ts';
import { cameraOf, LastSecond } from './figures.ts';
import type { Screen, ScreenEvents } from './screen.ts';
import { cameraPath, type StreamEnd, type StreamStatus } from './units.ts';

/** Later than that it plays a little faster, and much later it jumps; in seconds. */
const LATE = 0.09;
const FAR_TOO_LATE = 0.6;
const FASTER = 1.1;
/** What has been shown is kept for so long, in seconds. */
const KEPT = 10;
/** More than that must not wait to be shown, in bytes: then it begins anew. */
const MOST_WAITING = 8 * 1024 * 1024;
/** Whoever hears nothing for so long has lost the connection, though nobody may say so. A camera may begin anew meanwhile. */
const SILENCE = 20_000;
const LOOK_INTERVAL = 100;

/** iPhones have another one, which holds the page back where it likes. */
type SourceConstructor = typeof MediaSource;
const Source = (globalThis as { ManagedMediaSource?: SourceConstructor }).ManagedMediaSource ?? globalThis.MediaSource;

/** Whether this browser can show pictures so. */
export function canPlay(): boolean {
  return Source !== undefined;
}

export class MseScreen implements Screen {
  readonly element = document.createElement('video');
  #source = new Source();
  #abort = new AbortController();
  #waiting: Uint8Array<ArrayBuffer>[] = [];
  #waitingBytes = 0;
  /** When something came last, once something has come. */
  #heard = Infinity;
  #shown = new LastSecond();
  #came = new LastSecond();
  #status: StreamStatus = { dropped: 0, device_dropped: 0, restarts: 0 };
  #frames = 0;
  #wasShown = false;
  #timer: ReturnType<typeof setInterval>;
  #url = URL.createObjectURL(this.#source);

  constructor(
    private readonly device: string,
    private readonly camera: string,
    private readonly events: ScreenEvents,
  ) {
    const { element } = this;
    element.muted = true;
    element.playsInline = true;
    // Without this a ManagedMediaSource does not open.
    element.disableRemotePlayback = true;
    element.src = this.#url;
    this.#source.addEventListener('sourceopen', () => void this.#run(), { once: true });
    this.#timer = setInterval(() => this.#look(), LOOK_INTERVAL);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#abort.abort();
    this.element.removeAttribute('src');
    this.element.load();
    URL.revokeObjectURL(this.#url);
  }

  async #run(): Promise<void> {
    let end: StreamEnd | undefined;
    try {
      end = await this.#play();
    } catch {
      // Cut, or no longer wanted.
    }
    if (this.#abort.signal.aborted) return;
    this.stop();
    this.events.ended(end);
  }

  async #play(): Promise<StreamEnd | undefined> {
    const asked = address(cameraPath(this.device, this.camera, '/live.mp4'));
    const response = await fetch(asked, { credentials: 'same-origin', cache: 'no-store', signal: this.#abort.signal });
    if (!response.ok || !response.body) {
      const { code, message } = await errorOf(response);
      return { code, message };
    }
    const buffer = this.#source.addSourceBuffer(response.headers.get('content-type') ?? 'video/mp4');
    buffer.addEventListener('updateend', () => this.#append(buffer));
    const reader = response.body.getReader();
    const boxes = new Boxes();
    let end: StreamEnd | undefined;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return end;
      for (const message of boxes.read(value)) {
        if (message.type === 'status') this.#status = message;
        else if (message.type === 'end') end = message;
      }
      this.#heard = performance.now();
      this.#came.note(this.#heard, value.length);
      this.#waiting.push(value);
      this.#waitingBytes += value.length;
      this.#append(buffer);
      if (this.#waitingBytes > MOST_WAITING) this.#lose();
    }
  }

  #append(buffer: SourceBuffer): void {
    if (buffer.updating || this.#source.readyState !== 'open') return;
    try {
      // What was shown goes first, or there may be no room for what comes.
      if (buffer.buffered.length > 0 && this.element.currentTime - buffer.buffered.start(0) > 2 * KEPT) {
        buffer.remove(0, this.element.currentTime - KEPT);
        return;
      }
      const next = this.#waiting.shift();
      if (!next) return;
      this.#waitingBytes -= next.length;
      buffer.appendBuffer(next);
    } catch {
      // There is no room, or the browser has given this source up.
      this.#lose();
    }
  }

  /** Ends it as a connection that was lost. */
  #lose(): void {
    if (this.#abort.signal.aborted) return;
    this.stop();
    this.events.ended(undefined);
  }

  /** Keeps near the newest picture. */
  #look(): void {
    if (performance.now() - this.#heard > SILENCE) {
      this.#lose();
      return;
    }
    const { element } = this;
    const { buffered } = element;
    if (buffered.length === 0) return;
    const late = buffered.end(buffered.length - 1) - element.currentTime;
    if (late > FAR_TOO_LATE || element.currentTime < buffered.start(buffered.length - 1))
      element.currentTime = Math.max(buffered.start(buffered.length - 1), buffered.end(buffered.length - 1) - LATE / 2);
    element.playbackRate = late > LATE ? FASTER : 1;
    if (element.paused) void element.play().catch(() => {});
    this.#tell(late);
  }

  #tell(late: number): void {
    const now = performance.now();
    const { totalVideoFrames, droppedVideoFrames } = this.element.getVideoPlaybackQuality();
    for (; this.#frames < totalVideoFrames; this.#frames += 1) this.#shown.note(now);
    if (totalVideoFrames > 0 && !this.#wasShown) {
      this.#wasShown = true;
      this.events.shown();
    }
    const { dropped, device_dropped, device_round_trip_ms } = this.#status;
    this.events.figures({
      // Half of the device's way there and back is its way; ours is not known.
      latency: late * 1000 + (device_round_trip_ms ?? 0) / 2,
      rate: this.#shown.count(now),
      bitrate: this.#came.sum(now) * 8,
      dropped: droppedVideoFrames + dropped + device_dropped,
      camera: cameraOf(this.#status),
      width: this.element.videoWidth,
      height: this.element.videoHeight,
    });
  }
}
