// Tabs of a real Chromium, and what it complains about in them.

import { mkdirSync } from 'node:fs';
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';
import { expect, type TestContext } from 'vitest';
import { processes } from './world.ts';

const SHOTS = `${process.env.HOLDFAST_SHOTS ?? new URL('../../../target/console', import.meta.url).pathname}/real/`;

/** What everybody has here. */
export const PASSWORD = 'correct horse battery';

export class Tabs {
  readonly complaints: string[] = [];
  #browser: Browser | undefined;

  constructor(
    /** What the pictures of tests that have failed are called. */
    private readonly name: string,
    /** How long a page may take for anything, in milliseconds. */
    private readonly patience: number,
  ) {}

  async start(): Promise<void> {
    mkdirSync(SHOTS, { recursive: true });
    this.#browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic'],
    });
  }

  async stop(): Promise<void> {
    await this.#browser?.close();
  }

  /** Kills the browser, as a loss of power would, and starts another. */
  async kill(): Promise<void> {
    const gone = new Promise((resolve) => this.#browser?.once('disconnected', resolve));
    const own = processes().filter(({ parent, command }) => parent === process.pid && command.includes('chromium'));
    for (const { id } of own) process.kill(id, 'SIGKILL');
    await gone;
    await this.start();
  }

  /** A page that knows of nobody else's login. */
  async open(root: string, options: BrowserContextOptions = {}): Promise<Page> {
    if (!this.#browser) throw new Error('the browser has not been started');
    const context = await this.#browser.newContext({
      viewport: { width: 1280, height: 800 },
      baseURL: root,
      ignoreHTTPSErrors: true,
      ...options,
    });
    const page = await context.newPage();
    page.setDefaultTimeout(this.patience);
    page.on('pageerror', (error) => this.complaints.push(`error: ${error.message}`));
    page.on('console', (message) => {
      // What is refused or cut is an error to the browser; the console has words for it.
      if (message.type() === 'error' && !/Failed to load resource|WebSocket/.test(message.text()))
        this.complaints.push(message.text());
    });
    return page;
  }

  async shot(page: Page, name: string): Promise<void> {
    await page.screenshot({ path: `${SHOTS}${name}.png` });
  }

  /** Closes what a test has left open; what it looked like when it failed is kept. */
  async leave(test: TestContext): Promise<void> {
    const contexts = this.#browser?.contexts() ?? [];
    if (test.task.result?.state === 'fail')
      for (const [number, page] of contexts.flatMap((each) => each.pages()).entries())
        await this.shot(page, `failed-${this.name}-${number}`);
    for (const each of contexts) await each.close();
    expect(this.complaints.splice(0)).toEqual([]);
  }
}
