// What a form or a button asks of the server: whether it is under way, and what went wrong.

import type { ApiError } from '../api/client.ts';

export class Attempt {
  isBusy = $state(false);
  /** What went wrong the last time. */
  error: ApiError | undefined = $state.raw();

  async run(action: () => Promise<unknown>): Promise<void> {
    this.isBusy = true;
    this.error = undefined;
    try {
      await action();
    } catch (problem) {
      this.error = problem as ApiError;
    } finally {
      this.isBusy = false;
    }
  }

  /** What a form does when it is submitted. */
  submit(action: () => Promise<unknown>): (event: SubmitEvent) => void {
    return (event) => {
      event.preventDefault();
      void this.run(action);
    };
  }
}
