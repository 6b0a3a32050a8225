// How late pictures are, and how many of them there are a second.

import type { StreamStatus } from './units.ts';

/** So long the fastest picture counts, in milliseconds: clocks drift. */
const WINDOW = 10_000;

/**
 * How long after the fastest of them pictures are there. The device's clock is another one than ours: what is known is
 * which picture took the least time, and how much longer others took.
 */
export class Lateness {
  #least = Infinity;
  #leastBefore = Infinity;
  #since = -Infinity;

  /** A picture of this time came now; both in milliseconds. */
  came(time: number, now: number): void {
    if (now - this.#since > WINDOW) {
      this.#leastBefore = this.#least;
      this.#least = Infinity;
      this.#since = now;
    }
    this.#least = Math.min(this.#least, now - time);
  }

  /** How much later a picture of this time is, if it is shown now. */
  of(time: number, now: number): number {
    return Math.max(0, now - time - Math.min(this.#least, this.#leastBefore));
  }

  /** Another stream has begun, with another clock. */
  reset(): void {
    this.#least = this.#leastBefore = Infinity;
    this.#since = -Infinity;
  }
}

/** How often something happened in the last second, and the middle of what was measured meanwhile. */
export class LastSecond {
  #all: [at: number, value: number][] = [];

  note(at: number, value = 0): void {
    this.#all.push([at, value]);
    this.#forget(at);
  }

  count(now: number): number {
    this.#forget(now);
    return this.#all.length;
  }

  sum(now: number): number {
    this.#forget(now);
    return this.#all.reduce((sum, [, value]) => sum + value, 0);
  }

  median(now: number): number | undefined {
    this.#forget(now);
    const values = this.#all.map(([, value]) => value).sort((a, b) => a - b);
    return values[Math.floor(values.length / 2)];
  }

  #forget(now: number): void {
    const first = this.#all.findIndex(([at]) => now - at <= 1000);
    this.#all.splice(0, first < 0 ? this.#all.length : first);
  }
}

/** What a camera gives each second, where its device tells it. */
export function cameraOf(status: StreamStatus): { rate: number; bitrate: number } | undefined {
  const { device_frames_per_second: rate, device_bits_per_second: bitrate } = status;
  return rate === undefined || bitrate === undefined ? undefined : { rate, bitrate };
}
