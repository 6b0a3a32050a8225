// The sessions of a device as far back as a picture of them goes.

import { type ApiError, newest } from '../api/client.ts';
import type { Session } from '../api/types.ts';
import { instant } from '../words/time.ts';

const PAGE = 500;
/** A device that comes and goes more often than this is drawn from its newest sessions alone. */
const MOST_PAGES = 10;

export class PresenceLog {
  /** Oldest first. */
  sessions: Session[] = $state.raw([]);
  phase: 'loading' | 'ready' | 'failed' = $state('loading');
  error: ApiError | undefined = $state.raw();
  #asked = 0;

  constructor(private readonly device: string) {}

  /** Reads the sessions that reach into the time since `from`. */
  async load(from: number): Promise<void> {
    const asked = ++this.#asked;
    try {
      let all: Session[] = [];
      for (let page = 0; page < MOST_PAGES; page += 1) {
        const { items, next } = await newest<Session>('/sessions', PAGE, { device: this.device }, all[0]?.id);
        all = [...items, ...all];
        if (next === undefined || (instant(items[0]?.started) ?? 0) < from) break;
      }
      if (asked !== this.#asked) return;
      this.sessions = all;
      this.phase = 'ready';
    } catch (error) {
      if (asked !== this.#asked) return;
      this.error = error as ApiError;
      this.phase = 'failed';
    }
  }
}
