// The built console, served with its security policy and the stand-in's fleet, in a real Chromium.

import { mkdirSync } from 'node:fs';
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';
import { preview, type PreviewServer } from 'vite';
import { PASSWORD } from '../dev/people.ts';

/** Where pictures of what was seen go. */
export const SHOTS = `${process.env.HOLDFAST_SHOTS ?? new URL('../../../target/console', import.meta.url).pathname}/`;

export interface Console {
  url: string;
  browser: Browser;
  /** A page of its own, logged in as `name`; null: not logged in. */
  open(path: string, name?: string | null, options?: BrowserContextOptions): Promise<Page>;
  /** Does something to the simulated world. */
  develop(what: string, parameters?: Record<string, string | number>): Promise<void>;
  /** What broke the security policy, or was an error in the page, since the last look. */
  complaints(): string[];
  stop(): Promise<void>;
}

export async function start(fleet: number): Promise<Console> {
  mkdirSync(SHOTS, { recursive: true });
  process.env.FLEET = String(fleet);
  const server: PreviewServer = await preview({ preview: { host: '127.0.0.1', port: 0 }, logLevel: 'error' });
  const address = server.httpServer.address();
  const url = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic'],
  });
  let found: string[] = [];

  async function open(path: string, name: string | null = 'anna', options: BrowserContextOptions = {}): Promise<Page> {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    const page = await context.newPage();
    page.on('pageerror', (error) => found.push(`error: ${error.message}`));
    page.on('console', (message) => {
      // A cut connection is an error to the browser; the console has words for it.
      if (message.type() === 'error' && !/Failed to load resource/.test(message.text()))
        found.push(`${message.type()}: ${message.text()}`);
    });
    if (name !== null) {
      const answer = await context.request.post(`${url}/api/v1/login`, {
        data: { name, password: PASSWORD },
        headers: { origin: url },
      });
      if (!answer.ok()) throw new Error(`login of ${name}: ${answer.status()}`);
    }
    await page.goto(url + path);
    return page;
  }

  async function develop(what: string, parameters: Record<string, string | number> = {}): Promise<void> {
    const query = new URLSearchParams(Object.entries(parameters).map(([key, value]) => [key, String(value)]));
    await fetch(`${url}/dev/${what}?${query}`, { method: 'POST' });
  }

  return {
    url,
    browser,
    open,
    develop,
    complaints: () => found.splice(0),
    stop: async () => {
      await browser.close();
      await server.close();
      found = [];
    },
  };
}

export async function shot(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: `${SHOTS}${name}.png` });
}
