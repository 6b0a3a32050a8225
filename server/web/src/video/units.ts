// A camera's pictures by a WebSocket: what the server says there (docs/api.md, Live video), and how long it takes.

import { address, devicePath } from '../api/client.ts';

/** How pictures are decoded. */
export interface StreamInfo {
  codec: string;
  width: number;
  height: number;
  framerate: number;
}

export interface StreamStatus {
  /** Left out for this viewer, as it was too slow. */
  dropped: number;
  /** Left out by the device. */
  device_dropped: number;
  restarts: number;
  /** What the camera gives, as its device tells it. */
  device_frames_per_second?: number;
  device_bits_per_second?: number;
  device_round_trip_ms?: number;
}

export interface StreamEnd {
  code: string;
  message: string;
}

export interface Unit {
  isKeyframe: boolean;
  /** Microseconds since the stream began. */
  time: number;
  /** An access unit of H.264 in the form of Annex B. */
  data: Uint8Array;
}

/** What the server says beside the pictures. */
export type Message =
  | ({ type: 'stream' } & StreamInfo)
  | ({ type: 'status' } & StreamStatus)
  | { type: 'pong'; at: number }
  | ({ type: 'end' } & StreamEnd);

export interface UnitsFollower {
  stream(info: StreamInfo): void;
  unit(unit: Unit): void;
  status(status: StreamStatus): void;
  /** In milliseconds, there and back. */
  roundTrip(milliseconds: number): void;
  /** Nothing more comes; without an end the connection was lost, or never there. */
  ended(end: StreamEnd | undefined): void;
}

const HEAD = 9;
const KEYFRAME = 1;
const PING_INTERVAL = 1000;
/** The server says something each second: whoever hears nothing for so long has lost it, though nobody may say so. */
const SILENCE = 10_000;

/** The path of what is about a camera. */
export function cameraPath(device: string, camera: string, rest: string): string {
  return devicePath(device, `/cameras/${encodeURIComponent(camera)}${rest}`);
}

/** The picture in a binary message; nothing, if it is none. */
export function unitOf(message: ArrayBuffer): Unit | undefined {
  if (message.byteLength <= HEAD) return undefined;
  const head = new DataView(message);
  return {
    isKeyframe: (head.getUint8(0) & KEYFRAME) !== 0,
    time: Number(head.getBigUint64(1)),
    data: new Uint8Array(message, HEAD),
  };
}

/** What is said in these bytes; nothing, if they are something else. */
export function messageOf(bytes: Uint8Array): Message | undefined {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as Message;
  } catch {
    return undefined;
  }
}

/** Follows a camera's pictures until the returned function is called. */
export function followUnits(device: string, camera: string, follower: UnitsFollower): () => void {
  const url = new URL(address(cameraPath(device, camera, '/units')), location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  const socket = new WebSocket(url);
  socket.binaryType = 'arraybuffer';
  let end: StreamEnd | undefined;
  let isOver = false;
  /** Once something has come. */
  let heard = Infinity;
  const ping = () => {
    if (performance.now() - heard > SILENCE) {
      socket.close();
      finish();
    } else if (socket.readyState === WebSocket.OPEN) {
      socket.send(JSON.stringify({ type: 'ping', at: performance.now() }));
    }
  };
  const pings = setInterval(ping, PING_INTERVAL);
  const finish = () => {
    clearInterval(pings);
    if (isOver) return;
    isOver = true;
    follower.ended(end);
  };
  socket.onopen = ping;
  socket.onclose = finish;
  socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
    if (isOver) return;
    heard = performance.now();
    if (typeof data !== 'string') {
      const unit = unitOf(data);
      if (unit) follower.unit(unit);
      return;
    }
    const message = JSON.parse(data) as Message;
    if (message.type === 'stream') follower.stream(message);
    else if (message.type === 'status') follower.status(message);
    else if (message.type === 'pong') follower.roundTrip(performance.now() - message.at);
    else if (message.type === 'end') end = message;
  };
  return () => {
    isOver = true;
    clearInterval(pings);
    socket.close();
  };
}
