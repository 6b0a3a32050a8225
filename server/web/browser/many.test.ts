// Five thousand devices that come and go: the list of them stays fluid.

import { writeFileSync } from 'node:fs';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { shot, SHOTS, start, type Console } from './console.ts';

const DEVICES = 5000;
const CHANGES_PER_SECOND = 500;

let app: Console;
beforeAll(async () => {
  app = await start(DEVICES);
  await app.develop('churn', { rate: CHANGES_PER_SECOND });
});
afterAll(() => app.stop());

interface Frames {
  frames: number;
  median: number;
  p95: number;
  longest: number;
  /** Time that scripts, style and layout took of each frame, as far as the browser calls it long. */
  longTasks: number[];
}

/** The time from frame to frame while `act` runs in the page. */
async function frames(page: Page, seconds: number, act: string): Promise<Frames> {
  return page.evaluate(
    async ({ seconds, act }) => {
      const longTasks: number[] = [];
      const observer = new PerformanceObserver((list) =>
        longTasks.push(...list.getEntries().map((entry) => Math.round(entry.duration))),
      );
      observer.observe({ type: 'longtask' });
      const box = document.querySelector('[role=table]') as HTMLElement;
      const search = document.querySelector('input[type=search]') as HTMLInputElement;
      const times: number[] = [];
      const began = performance.now();
      let last = began;
      let count = 0;
      await new Promise<void>((resolve) => {
        const frame = (now: number) => {
          times.push(now - last);
          last = now;
          count += 1;
          if (act === 'scroll') box.scrollTop += 70;
          if (act === 'search' && count % 12 === 0) {
            search.value = ['c', 'ca', 'cam', 'camera-1', '', '203.0'][(count / 12) % 6] as string;
            search.dispatchEvent(new Event('input', { bubbles: true }));
          }
          if (now - began < seconds * 1000) requestAnimationFrame(frame);
          else resolve();
        };
        requestAnimationFrame(frame);
      });
      observer.disconnect();
      const sorted = times.slice(1).sort((a, b) => a - b);
      const at = (share: number) => Math.round((sorted[Math.floor(sorted.length * share)] ?? 0) * 10) / 10;
      return { frames: sorted.length, median: at(0.5), p95: at(0.95), longest: at(0.9999), longTasks };
    },
    { seconds, act },
  );
}

test(`${DEVICES} devices, ${CHANGES_PER_SECOND} changes a second`, async () => {
  const page = await app.open('/');
  const began = Date.now();
  await page.getByText(/of 4,\d+ devices online/).waitFor();
  const loaded = Date.now() - began;
  // However many there are, few are drawn.
  expect(await page.locator('[role=row]').count()).toBeLessThan(60);
  await shot(page, 'many');
  const resting = await frames(page, 5, 'rest');
  const scrolling = await frames(page, 5, 'scroll');
  expect(await page.evaluate(() => document.querySelector('[role=table]')?.scrollTop)).toBeGreaterThan(3000);
  const searching = await frames(page, 5, 'search');
  const memory = await page.evaluate(
    () => (performance as unknown as { memory: { usedJSHeapSize: number } }).memory.usedJSHeapSize,
  );
  const measured = {
    devices: DEVICES,
    changesPerSecond: CHANGES_PER_SECOND,
    loadedMs: loaded,
    resting,
    scrolling,
    searching,
    heapBytes: memory,
  };
  writeFileSync(`${SHOTS}many.json`, `${JSON.stringify(measured, null, 2)}\n`);
  console.log(JSON.stringify(measured));
  // How long a frame lasts is measured, and says something on a machine that has nothing else to do. Everywhere, the page
  // goes on drawing.
  for (const { frames } of [resting, scrolling, searching]) expect(frames).toBeGreaterThan(5);
  expect(app.complaints()).toEqual([]);
});
