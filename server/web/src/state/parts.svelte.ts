// The server's parts and figures, live, with what the figures were in the last minutes.

import type { ApiError } from '../api/client.ts';
import type { Parts } from '../api/types.ts';
import { live } from './live.svelte.ts';

/** Two minutes, one value a second. */
const KEPT = 120;

export class ServerParts {
  latest: Parts | undefined = $state.raw();
  history: Record<string, number[]> = $state.raw({});
  refusal: ApiError | undefined = $state.raw();
  /** Whether this server tells of its parts at all. */
  readonly isToldOf = $derived(this.refusal?.code !== 'no-such-path');
  stop: () => void;

  /** `opened` is called with each connection: the server may be another one then. */
  constructor(opened: () => void) {
    this.stop = live.follow('/parts', {
      opened,
      event: ({ data }) => this.#take(JSON.parse(data) as Parts),
      refused: (error) => (this.refusal = error),
    });
  }

  #take(parts: Parts): void {
    this.latest = parts;
    const history: Record<string, number[]> = {};
    for (const [name, value] of Object.entries(parts.figures)) {
      if (typeof value === 'number') history[name] = [...(this.history[name] ?? []), value].slice(-KEPT);
    }
    this.history = history;
  }
}
