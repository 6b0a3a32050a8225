// The newest entries of a long list, live: the end of it first, older ones when asked for, new ones as they come.

import { ApiError, newest } from '../api/client.ts';
import { live } from './live.svelte.ts';

/** So many are asked for at once. */
const PAGE = 200;
/** More than this is not kept: whoever wants older ones asks again. */
const MOST = 5000;

type Query = Record<string, string | number | undefined>;

export class Recent<T extends { id: number }> {
  /** Oldest first. */
  items: T[] = $state.raw([]);
  phase: 'loading' | 'ready' | 'failed' = $state('loading');
  error: ApiError | undefined = $state.raw();
  hasEarlier = $state(false);
  isLoadingEarlier = $state(false);

  #stop: (() => void) | undefined;
  #isOver = false;
  #coming: T[] = [];
  #frame = 0;

  constructor(
    private readonly path: string,
    private readonly query: Query = {},
  ) {
    void this.load();
  }

  async load(): Promise<void> {
    this.phase = 'loading';
    try {
      const { items, next } = await newest<T>(this.path, PAGE, this.query);
      if (this.#isOver) return;
      this.items = items;
      this.hasEarlier = next !== undefined;
      this.phase = 'ready';
      this.#follow(items.at(-1)?.id ?? 0);
    } catch (error) {
      this.phase = 'failed';
      this.error = error as ApiError;
    }
  }

  #follow(after: number): void {
    this.#stop = live.follow(
      this.path,
      {
        event: ({ data }) => this.#come(JSON.parse(data) as T),
        refused: (error) => {
          this.phase = 'failed';
          this.error = error;
        },
      },
      { query: { ...this.query, after }, resume: true },
    );
  }

  async earlier(): Promise<void> {
    const first = this.items[0];
    if (!first || this.isLoadingEarlier) return;
    this.isLoadingEarlier = true;
    try {
      const { items, next } = await newest<T>(this.path, PAGE, this.query, first.id);
      this.hasEarlier = next !== undefined;
      this.items = [...items, ...this.items];
    } catch (error) {
      this.error = error as ApiError;
    } finally {
      this.isLoadingEarlier = false;
    }
  }

  /** Reads the newest entries again: what stands in them may have changed since they came. */
  async refresh(): Promise<void> {
    const page = await newest<T>(this.path, PAGE, this.query).catch(() => undefined);
    const changed = new Map(page?.items.map((item) => [item.id, item]));
    this.items = this.items.map((item) => changed.get(item.id) ?? item);
  }

  stop(): void {
    this.#isOver = true;
    this.#stop?.();
    cancelAnimationFrame(this.#frame);
  }

  #come(item: T): void {
    this.#coming.push(item);
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      const last = this.items.at(-1)?.id ?? 0;
      const fresh = this.#coming.filter(({ id }) => id > last);
      this.#coming = [];
      const all = [...this.items, ...fresh];
      this.hasEarlier ||= all.length > MOST;
      this.items = all.slice(-MOST);
    });
  }
}
