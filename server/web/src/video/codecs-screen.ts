// Shows a camera by WebCodecs: each picture is decoded and drawn as soon as it comes.

import { cameraOf, LastSecond, Lateness } from './figures.ts';
import type { Screen, ScreenEvents } from './screen.ts';
import { followUnits, type StreamInfo, type StreamStatus, type Unit } from './units.ts';

/** More than that must not wait for the decoder: then it goes on with the next keyframe. */
const MOST_WAITING = 30;
const FIGURES_INTERVAL = 500;

/** How it ends where the browser has no decoder for the camera's pictures: another way may have one. */
export const NO_DECODER = 'no-decoder';

/** Whether this browser can show pictures of this kind so. */
export function canDecode(): boolean {
  return 'VideoDecoder' in globalThis && 'EncodedVideoChunk' in globalThis;
}

export class CodecsScreen implements Screen {
  #context: CanvasRenderingContext2D | null;
  #decoder: VideoDecoder | undefined;
  #info: StreamInfo | undefined;
  #needsKeyframe = true;
  #wasShown = false;
  #lateness = new Lateness();
  #drawn = new LastSecond();
  #came = new LastSecond();
  #status: StreamStatus = { dropped: 0, device_dropped: 0, restarts: 0 };
  #dropped = 0;
  #roundTrip: number | undefined;
  #leave: () => void;
  #timer: ReturnType<typeof setInterval>;

  constructor(
    device: string,
    camera: string,
    private readonly events: ScreenEvents,
    /** What it draws on: what floats in a window of its own goes on showing this one. */
    readonly element: HTMLCanvasElement,
  ) {
    this.#context = element.getContext('2d', { alpha: false, desynchronized: true });
    this.#leave = followUnits(device, camera, {
      stream: (info) => this.#configure(info),
      unit: (unit) => this.#decode(unit),
      status: (status) => (this.#status = status),
      roundTrip: (milliseconds) => (this.#roundTrip = milliseconds),
      ended: (end) => {
        this.stop();
        events.ended(end);
      },
    });
    this.#timer = setInterval(() => this.#tell(), FIGURES_INTERVAL);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#leave();
    this.#info = undefined;
    if (this.#decoder?.state !== 'closed') this.#decoder?.close();
    this.#decoder = undefined;
  }

  #configure(info: StreamInfo): void {
    this.#info = info;
    this.#lateness.reset();
    this.#open(info.codec);
    // The first picture does not wait for the answer.
    const unsupported = () => {
      if (this.#info !== info) return;
      this.stop();
      this.events.ended({ code: NO_DECODER, message: 'This browser can not decode what the camera sends.' });
    };
    VideoDecoder.isConfigSupported({ codec: info.codec }).then(({ supported }) => {
      if (!supported) unsupported();
    }, unsupported);
  }

  #open(codec: string): void {
    if (this.#decoder?.state !== 'closed') this.#decoder?.close();
    // A picture that is none closes it: the next keyframe may be one.
    this.#decoder = new VideoDecoder({ output: (frame) => this.#draw(frame), error: () => {} });
    this.#decoder.configure({ codec, optimizeForLatency: true });
    this.#needsKeyframe = true;
  }

  #decode(unit: Unit): void {
    const now = performance.now();
    this.#lateness.came(unit.time / 1000, now);
    this.#came.note(now, unit.data.byteLength);
    if (!this.#info) return;
    if (this.#decoder?.state === 'closed') {
      this.#needsKeyframe = true;
      if (unit.isKeyframe) this.#open(this.#info.codec);
    }
    const decoder = this.#decoder;
    if (!decoder) return;
    if (decoder.decodeQueueSize > MOST_WAITING) this.#needsKeyframe = true;
    if (this.#needsKeyframe && !unit.isKeyframe) {
      this.#dropped += 1;
      return;
    }
    this.#needsKeyframe = false;
    const { data, time: timestamp } = unit;
    decoder.decode(new EncodedVideoChunk({ type: unit.isKeyframe ? 'key' : 'delta', timestamp, data }));
  }

  #draw(frame: VideoFrame): void {
    const { element } = this;
    if (element.width !== frame.displayWidth || element.height !== frame.displayHeight) {
      element.width = frame.displayWidth;
      element.height = frame.displayHeight;
    }
    this.#context?.drawImage(frame, 0, 0);
    const now = performance.now();
    this.#drawn.note(now, this.#lateness.of(frame.timestamp / 1000, now));
    frame.close();
    if (!this.#wasShown) {
      this.#wasShown = true;
      this.events.shown();
    }
  }

  #tell(): void {
    const now = performance.now();
    const late = this.#drawn.median(now);
    // Half of the way there and back is the way; what camera and encoder take is not known.
    const way = ((this.#roundTrip ?? 0) + (this.#status.device_round_trip_ms ?? 0)) / 2;
    this.events.figures({
      latency: late === undefined ? undefined : late + way,
      rate: this.#drawn.count(now),
      bitrate: this.#came.sum(now) * 8,
      dropped: this.#dropped + this.#status.dropped + this.#status.device_dropped,
      camera: cameraOf(this.#status),
      width: this.element.width,
      height: this.element.height,
    });
  }
}
