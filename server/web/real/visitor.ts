// Whoever looks at cameras in a real browser: what they do, and what they see.

import type { BrowserContextOptions, Page } from 'playwright-core';
import { expect } from 'vitest';
import { PASSWORD, Tabs } from './tabs.ts';
import type { Agent, World } from './world.ts';

/** For what takes a camera's start and more, on a machine that is busy. */
export const LONG = { timeout: 60_000 };

export const PHONE: BrowserContextOptions = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

/** An agent that does not wait long before it tries again. */
export const HASTY = `
[connection]
timeout_seconds = 3
least_wait_seconds = 0.1
most_wait_seconds = 0.5
`;

/** A camera that needs none. */
export function testCamera(name: string, bitrate: number): string {
  return `
[[cameras]]
name = "${name}"
kind = "test"
width = 640
height = 480
framerate = 15
bitrate = ${bitrate}
`;
}

export interface Viewer {
  id: number;
  frames: number;
  dropped: number;
  way: string;
}

export class Visitors extends Tabs {
  readonly #world: World;

  constructor(world: World) {
    super('video', LONG.timeout);
    this.#world = world;
  }

  /** Starts the server, this device and a browser, and lets the first user in. */
  async begin(device: Agent, name: string): Promise<void> {
    await this.#world.start();
    await device.enrol(await this.#world.tell('enroll', '--name', name));
    device.start();
    await this.start();
    const page = await this.open(this.#world.https);
    await page.goto(`/#/first/${await this.#world.welcome('anna', 'admin')}`);
    await page.getByLabel('New password').fill(PASSWORD);
    await page.getByLabel('Once more').fill(PASSWORD);
    await page.getByRole('button', { name: 'Set the password' }).click();
    await page.locator('[role=row]', { hasText: name }).getByText('Online').waitFor();
    await page.context().close();
  }

  async end(): Promise<void> {
    await this.stop();
    await this.#world.stop();
  }

  /** Logs in, and looks at what a camera shows. */
  async look(root: string, way: 'WebCodecs' | 'MSE', options: BrowserContextOptions = {}, camera = 'door') {
    const page = await this.open(root, { viewport: { width: 1280, height: 900 }, ...options });
    if (way === 'MSE') await page.addInitScript(() => sessionStorage.setItem('holdfast-player', 'mse'));
    await page.goto('/devices/porch/video');
    await page.getByLabel('Name').fill('anna');
    await page.getByLabel('Password').fill(PASSWORD);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('button', { name: camera, exact: true }).click();
    await page.getByRole('button', { name: 'Show the picture' }).click();
    await live(page);
    await page.getByTitle(`Shown by ${way}`).waitFor();
    return page;
  }

  async viewers(): Promise<Viewer[]> {
    const { items } = await this.#world.ask<{ items: Viewer[] }>('/viewers');
    return items.sort((one, other) => one.id - other.id);
  }

  /** The numbers of the tasks that have not ended. */
  async openTasks(): Promise<number[]> {
    const { items } = await this.#world.ask<{ items: { id: number }[] }>('/tasks?open=true');
    return items.map(({ id }) => id);
  }
}

/** Waits until the picture is there. */
export async function live(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Keep this picture' }).waitFor();
}

/** A sum over the pixels that are shown now. */
async function pixels(page: Page): Promise<{ sum: number; isDark: boolean }> {
  return page.evaluate(() => {
    const shown = document.querySelector<HTMLCanvasElement | HTMLVideoElement>('.picture canvas, .picture video');
    const copy = document.createElement('canvas');
    [copy.width, copy.height] = [160, 120];
    const context = copy.getContext('2d');
    if (!shown || !context) return { sum: 0, isDark: true };
    context.drawImage(shown, 0, 0, 160, 120);
    const { data } = context.getImageData(0, 0, 160, 120);
    let sum = 0;
    let light = 0;
    for (const [at, value] of data.entries()) {
      if (at % 4 === 3) continue;
      sum = (sum * 31 + value) % 1_000_000_007;
      light += value;
    }
    return { sum, isDark: light === 0 };
  });
}

/** Waits until there is another picture than now. */
export async function moves(page: Page): Promise<void> {
  const first = await pixels(page);
  await expect
    .poll(async () => {
      const { sum, isDark } = await pixels(page);
      return !isDark && sum !== first.sum;
    }, LONG)
    .toBe(true);
}

/** A figure below the picture. */
export async function figure(page: Page, name: string): Promise<number> {
  const shown = page.locator(`.figures div:has(dt:text-is("${name}")) dd`);
  return Number.parseFloat((await shown.textContent()) ?? '');
}
