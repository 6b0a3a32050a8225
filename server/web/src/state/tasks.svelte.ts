// The tasks of a device: those that have ended, and those that run, live.

import { type ApiError, newest } from '../api/client.ts';
import type { Task } from '../api/types.ts';
import { live } from './live.svelte.ts';

const PAGE = 50;
const ORDER = ['requested', 'starting', 'running', 'stopping'];

export function isOpen(task: Task): boolean {
  return task.ended === undefined && ORDER.includes(task.state);
}

/** How far a task is: a list that was asked for earlier may tell less than the stream has told already. */
function progress(task: Task): number {
  return isOpen(task) ? ORDER.indexOf(task.state) : ORDER.length;
}

export class DeviceTasks {
  /** Newest first. */
  all: Task[] = $state.raw([]);
  phase: 'loading' | 'ready' | 'failed' = $state('loading');
  error: ApiError | undefined = $state.raw();

  #tasks = new Map<number, Task>();
  #stop: () => void;

  constructor(private readonly device: string) {
    this.#stop = live.follow(
      '/tasks',
      {
        // A task that ended while nobody was connected is not in the stream: the list is read with each connection.
        opened: () => void this.#load(),
        event: ({ event, data }) => {
          if (event === 'task') this.take([JSON.parse(data) as Task]);
        },
        refused: (error) => this.#fail(error),
      },
      { query: { device } },
    );
  }

  take(tasks: Task[]): void {
    for (const task of tasks) {
      const known = this.#tasks.get(task.id);
      if (!known || progress(task) >= progress(known)) this.#tasks.set(task.id, task);
    }
    this.all = [...this.#tasks.values()].sort((a, b) => b.id - a.id);
  }

  stop(): void {
    this.#stop();
  }

  async #load(): Promise<void> {
    try {
      const { items } = await newest<Task>('/tasks', PAGE, { device: this.device });
      this.take(items);
      this.phase = 'ready';
    } catch (error) {
      this.#fail(error as ApiError);
    }
  }

  #fail(error: ApiError): void {
    this.error = error;
    this.phase = 'failed';
  }
}
