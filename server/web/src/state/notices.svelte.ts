// Short words about what has just been done, which go away by themselves.

import type { ApiError } from '../api/client.ts';

export interface Notice {
  id: number;
  text: string;
  tone: 'good' | 'bad';
}

const SHOWN_FOR = 6000;

class Notices {
  all: Notice[] = $state.raw([]);
  #last = 0;

  say(text: string, tone: Notice['tone'] = 'good'): void {
    const id = ++this.#last;
    this.all = [...this.all, { id, text, tone }];
    setTimeout(() => this.remove(id), SHOWN_FOR);
  }

  /** Does it; if that fails, it says why. */
  async attempt(action: () => Promise<unknown>): Promise<void> {
    try {
      await action();
    } catch (problem) {
      this.say((problem as ApiError).message, 'bad');
    }
  }

  remove(id: number): void {
    this.all = this.all.filter((notice) => notice.id !== id);
  }
}

export const notices = new Notices();
