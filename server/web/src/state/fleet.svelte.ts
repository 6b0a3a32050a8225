// All devices, live. What comes within one frame is shown at once; a busy fleet costs no more than a frame.

import type { ApiError } from '../api/client.ts';
import type { Device } from '../api/types.ts';
import { live } from './live.svelte.ts';

class Fleet {
  /** Raised whenever something has changed: whoever reads it is told. */
  version = $state(0);
  /** All devices were told once. */
  isComplete = $state(false);
  refusal: ApiError | undefined = $state.raw();

  #devices = new Map<string, Device>();
  /** The names that the connection has told of so far: who is not among them at its end of the list is gone. */
  #told: Set<string> | undefined;
  #frame = 0;
  #stop: (() => void) | undefined;

  start(): void {
    this.#stop ??= live.follow('/devices', {
      opened: () => (this.#told = new Set()),
      event: ({ event, data }) => {
        if (event === 'device') this.#set(JSON.parse(data) as Device);
        else if (event === 'ready') this.#complete();
      },
      refused: (error) => (this.refusal = error),
    });
  }

  stop(): void {
    this.#stop?.();
    this.#stop = undefined;
    this.#devices.clear();
    this.isComplete = false;
    this.refusal = undefined;
    this.#show();
  }

  get(name: string): Device | undefined {
    void this.version;
    return this.#devices.get(name);
  }

  all(): Iterable<Device> {
    void this.version;
    return this.#devices.values();
  }

  get size(): number {
    void this.version;
    return this.#devices.size;
  }

  #set(device: Device): void {
    this.#devices.set(device.name, device);
    this.#told?.add(device.name);
    this.#show();
  }

  #complete(): void {
    for (const name of this.#devices.keys()) {
      if (this.#told && !this.#told.has(name)) this.#devices.delete(name);
    }
    this.#told = undefined;
    this.isComplete = true;
    this.#show();
  }

  #show(): void {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.version += 1;
    });
  }
}

export const fleet = new Fleet();
