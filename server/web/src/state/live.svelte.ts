// Whether what is shown is live: how all open streams are doing, as one.

import { Stream, type Follower, type FollowOptions, type StreamState } from '../api/stream.ts';

interface Standing {
  state: StreamState;
  /** It was lost and has not come back yet: a new try does not make it live. */
  wasLost: boolean;
  retryAt: number;
}

class Live {
  state: 'connecting' | 'open' | 'lost' = $state('connecting');
  /** When the next try is. */
  retryAt = $state(0);
  #streams = new Map<Stream, Standing>();

  /** Follows a stream until the returned function is called. */
  follow(path: string, follower: Follower, options: FollowOptions = {}): () => void {
    const standing: Standing = { state: 'connecting', wasLost: false, retryAt: 0 };
    const stream = new Stream(
      path,
      {
        ...follower,
        state: (state, retryAt = 0) => {
          standing.state = state;
          standing.retryAt = retryAt;
          if (state === 'lost') standing.wasLost = true;
          if (state === 'open' || state === 'paused') standing.wasLost = false;
          this.#sum();
          follower.state?.(state, retryAt);
        },
        refused: (error) => {
          this.#streams.delete(stream);
          this.#sum();
          follower.refused?.(error);
        },
      },
      options,
    );
    this.#streams.set(stream, standing);
    this.#sum();
    return () => {
      this.#streams.delete(stream);
      stream.stop();
      this.#sum();
    };
  }

  retry = (): void => {
    for (const stream of this.#streams.keys()) stream.retry();
  };

  #sum(): void {
    const all = [...this.#streams.values()];
    const lost = all.filter((standing) => standing.wasLost);
    this.state = lost.length > 0 ? 'lost' : all.every((standing) => standing.state === 'open') ? 'open' : 'connecting';
    this.retryAt = Math.min(...lost.map((standing) => standing.retryAt).filter((at) => at > 0), Number.MAX_VALUE);
  }
}

export const live = new Live();
