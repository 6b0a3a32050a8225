// What shows a camera: one of two ways, alike from outside.

import type { StreamEnd } from './units.ts';

/** What is told of a picture that runs. */
export interface Figures {
  /** How late the picture is, as far as it can be known, in milliseconds. */
  latency: number | undefined;
  /** Pictures a second. */
  rate: number;
  /** Bits a second that come. */
  bitrate: number;
  /** Pictures that were left out on the way, since it began. */
  dropped: number;
  /** What the camera gives: pictures and bits a second, where that is told. */
  camera?: { rate: number; bitrate: number } | undefined;
  width: number;
  height: number;
}

export interface ScreenEvents {
  /** The first picture is there. */
  shown(): void;
  figures(figures: Figures): void;
  /** Nothing more comes; without an end the connection was lost, or never there. */
  ended(end: StreamEnd | undefined): void;
}

export interface Screen {
  /** What shows the picture: a canvas or a video. */
  readonly element: HTMLCanvasElement | HTMLVideoElement;
  stop(): void;
}
