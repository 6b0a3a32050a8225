// That something has happened, here or elsewhere: whoever shows what follows from it reads that again.

import type { Happening } from '../api/types.ts';
import { Recent } from './recent.svelte.ts';

/** What changes who may come in, and by what. */
export const ABOUT_PEOPLE = /^(operator|role|log|password|second-factor|access-token)/;
/** What changes who looks at cameras, and what is recorded. */
export const ABOUT_VIDEO = /^(viewing|recording)-/;

export class News {
  readonly #kinds: RegExp;
  readonly #recent: Recent<Happening>;
  /** The number of the newest event of these kinds. */
  readonly latest = $derived.by(() => this.#recent.items.findLast(({ kind }) => this.#kinds.test(kind))?.id ?? 0);

  /** Events whose names match this, of all devices or of one. */
  constructor(kinds: RegExp, device?: string) {
    this.#kinds = kinds;
    this.#recent = new Recent<Happening>('/events', { device });
  }

  stop(): void {
    this.#recent.stop();
  }
}
