// The part of the fleet that a list shows, kept in order while devices come and go.

import { untrack } from 'svelte';
import type { Device } from '../api/types.ts';
import {
  filtered,
  fromQuery,
  sorted,
  stateOf,
  toQuery,
  type Column,
  type State,
  type Wanted,
} from '../fleet/listing.ts';
import { router } from '../router.svelte.ts';
import { fleet } from './fleet.svelte.ts';

/** Rows change places at most so often, or nobody could read them; what stands in them changes at once. */
const SETTLING = 1000;
/** While the fleet is being told for the first time. */
const FILLING = 200;

export class Listing {
  wanted: Wanted = $state(fromQuery(router.query));
  order: Device[] = $state.raw([]);
  counts: Record<State | 'all', number> = $state.raw({ all: 0, online: 0, offline: 0, revoked: 0 });
  kinds: string[] = $state.raw([]);

  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    $effect(() => {
      const query = toQuery(this.wanted);
      untrack(() => {
        this.settle();
        router.remember(query);
      });
    });
    $effect(() => {
      void fleet.version;
      this.#timer ??= setTimeout(() => this.settle(), fleet.isComplete ? SETTLING : FILLING);
    });
    $effect(() => () => clearTimeout(this.#timer));
  }

  settle = (): void => {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const { column, descending } = this.wanted;
    this.order = sorted(filtered(fleet.all(), this.wanted), column, descending);
    const counts = { all: 0, online: 0, offline: 0, revoked: 0 };
    const kinds = new Set<string>();
    for (const device of fleet.all()) {
      counts.all += 1;
      counts[stateOf(device)] += 1;
      kinds.add(device.kind);
    }
    this.counts = counts;
    if ([...kinds].sort().join() !== this.kinds.join()) this.kinds = [...kinds].sort();
  };

  /** Orders by a column; by the same one again: the other way around. */
  sort = (column: Column): void => {
    this.wanted.descending = this.wanted.column === column && !this.wanted.descending;
    this.wanted.column = column;
  };

  clear = (): void => {
    Object.assign(this.wanted, { search: '', state: 'all', kind: 'all' });
  };
}
