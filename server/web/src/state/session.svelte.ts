// Who is logged in here.

import { ApiError, get, onLoggedOut, onRefused, post } from '../api/client.ts';
import type { Me, Role } from '../api/types.ts';
import { fleet } from './fleet.svelte.ts';

const RANKS: Record<Role, number> = { viewer: 0, operator: 1, admin: 2 };

class LoginSession {
  /** null: nobody; undefined: not known yet. */
  me: Me | null | undefined = $state.raw();
  /** Why it is not known. */
  error: ApiError | undefined = $state.raw();
  /** It has ended while somebody was at work. */
  hasEnded = $state(false);

  constructor() {
    onLoggedOut(() => {
      this.hasEnded = this.me != null;
      this.#leave();
    });
    onRefused(() => void this.load());
  }

  async load(): Promise<void> {
    this.error = undefined;
    try {
      this.me = await get<Me>('/me');
      this.hasEnded = false;
      fleet.start();
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) this.#leave();
      else this.error = error as ApiError;
    }
  }

  async login(name: string, password: string, code?: string): Promise<void> {
    await post('/login', { name, password, ...(code ? { code } : {}) });
    await this.load();
  }

  async firstLogin(token: string, password: string): Promise<void> {
    await post('/login/first', { token, password });
    await this.load();
  }

  async logout(): Promise<void> {
    await post('/logout');
    this.#leave();
  }

  /** Whether who is logged in has at least this role. The server decides; this only leaves out what it would refuse. */
  may(role: Role): boolean {
    return this.me != null && RANKS[this.me.role] >= RANKS[role];
  }

  #leave(): void {
    this.me = null;
    fleet.stop();
  }
}

export const session = new LoginSession();
