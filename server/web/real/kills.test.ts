// Whoever has a part in live video is killed: nothing is left behind, and the picture comes back where somebody looks.

import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { HASTY, live, LONG, moves, PHONE, testCamera, Visitors } from './visitor.ts';
import { World, type Process } from './world.ts';

const world = new World();
const porch = world.agent('porch', testCamera('door', 800_000) + testCamera('yard', 800_000) + HASTY);
const visitors = new Visitors(world);

beforeAll(() => visitors.begin(porch, 'porch'));
afterAll(() => visitors.end());
afterEach((test) => visitors.leave(test));

/** The camera's own program, while it runs. */
const cameras = () => porch.processes().filter(({ command }) => command.startsWith('ffmpeg '));
const ids = (processes: Process[]) => processes.map(({ id }) => id);

/** Waits until none of these run. */
async function gone(processes: Process[]): Promise<void> {
  const running = () => porch.processes().filter(({ id }) => ids(processes).includes(id));
  await expect.poll(running, LONG).toEqual([]);
}

/** Waits until another program than this one gives the picture, and it moves. */
async function back(page: Page, before: Process[]): Promise<void> {
  await gone(before);
  await expect.poll(() => cameras().length, LONG).toBe(1);
  await live(page);
  await moves(page);
}

test.each(['WebCodecs', 'MSE'] as const)('the camera and the task are killed, by %s', async (way) => {
  const page = await visitors.look(world.https, way);
  await moves(page);
  const [camera] = cameras();
  process.kill(camera!.id, 'SIGKILL');
  await back(page, [camera!]);
  // The task's process; between it and the camera's stands a guard.
  const [task] = await visitors.openTasks();
  const before = cameras();
  const guard = porch.processes().find(({ id }) => id === before[0]?.parent)!;
  process.kill(guard.parent, 'SIGKILL');
  await back(page, before);
  expect(await visitors.openTasks()).not.toContain(task);
  expect((await visitors.viewers()).length).toBe(1);
});

test('the agent is killed, and nothing of it is left; it comes back, and so does the picture', async () => {
  const page = await visitors.look(world.https, 'WebCodecs', PHONE);
  await moves(page);
  const before = porch.processes();
  expect(cameras().length).toBe(1);
  await porch.kill();
  await gone(before);
  await expect.poll(() => visitors.viewers(), LONG).toEqual([]);
  await page.getByText(/comes back by itself/).waitFor();
  await visitors.shot(page, 'video-lost-phone');
  porch.start();
  await back(page, before);
});

test('the server is killed: the camera is off, and the picture comes back with the server', async () => {
  const page = await visitors.look(world.https, 'MSE');
  await moves(page);
  const before = cameras();
  await world.kill();
  await gone(before);
  await page.getByText(/comes back by itself/).waitFor();
  await visitors.shot(page, 'video-server-gone');
  await world.start();
  await back(page, before);
  await expect.poll(async () => (await visitors.viewers()).length, LONG).toBe(1);
});

test.each(['closed', 'killed'] as const)(
  'a browser that is %s is no viewer any longer, and its camera is off',
  async (how) => {
    const page = await visitors.look(world.https, 'WebCodecs');
    await moves(page);
    const before = cameras();
    if (how === 'closed') await page.context().close();
    else await visitors.kill();
    await expect.poll(() => visitors.viewers(), LONG).toEqual([]);
    await gone(before);
    await expect.poll(() => visitors.openTasks(), LONG).toEqual([]);
  },
);
