// Live video with the real server, a real agent and its test cameras, in a real browser: nothing here is played.

import { execFileSync } from 'node:child_process';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { SlowLink } from './slow-link.ts';
import { figure, HASTY, live, LONG, moves, PHONE, testCamera, Visitors } from './visitor.ts';
import { World } from './world.ts';

const world = new World();
const porch = world.agent('porch', testCamera('door', 800_000) + testCamera('yard', 4_000_000) + HASTY);
const visitors = new Visitors(world);

beforeAll(() => visitors.begin(porch, 'porch'));
afterAll(() => visitors.end());
afterEach((test) => visitors.leave(test));

test.each([
  ['WebCodecs', 'units'],
  ['MSE', 'mp4'],
] as const)('the picture moves, by %s, and the camera is off again', async (way, name) => {
  const page = await visitors.look(world.https, way);
  await moves(page);
  await expect.poll(() => figure(page, 'Rate'), LONG).toBeGreaterThan(0);
  expect(await figure(page, 'Latency')).toBeGreaterThanOrEqual(0);
  await visitors.shot(page, `video-${way.toLowerCase()}`);
  expect((await visitors.viewers()).map((viewer) => viewer.way)).toEqual([name]);
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByRole('button', { name: 'Show the picture' }).waitFor();
  await expect.poll(() => visitors.viewers(), LONG).toEqual([]);
  await expect.poll(() => visitors.openTasks(), LONG).toEqual([]);
});

test('two look at one stream, and each of them can be thrown out', async () => {
  const first = await visitors.look(world.https, 'WebCodecs');
  const second = await visitors.look(world.http, 'WebCodecs', { colorScheme: 'dark' });
  const third = await visitors.look(world.https, 'MSE', PHONE);
  for (const page of [first, second, third]) await moves(page);
  await visitors.shot(second, 'video-dark');
  await visitors.shot(third, 'video-phone');
  expect((await visitors.openTasks()).length).toBe(1);
  const [, ...others] = await visitors.viewers();
  for (const { id } of others) await world.ask(`/viewers/${id}/stop`, {});
  await second.getByText(/^Thrown out by/).waitFor();
  await third.getByText(/^Thrown out by/).waitFor();
  await visitors.shot(second, 'video-thrown-out-dark');
  await visitors.shot(third, 'video-thrown-out-phone');
  await moves(first);
  expect((await visitors.viewers()).length).toBe(1);
  await third.getByRole('button', { name: 'Try again' }).click();
  await live(third);
  await moves(third);
});

test('whoever is slow misses pictures, and slows nobody', async () => {
  const link = new SlowLink(world.https);
  try {
    const quick = await visitors.look(world.https, 'WebCodecs', {}, 'yard');
    const slow = await visitors.look(await link.start(), 'WebCodecs', {}, 'yard');
    await moves(slow);
    link.rate = 40_000;
    await expect.poll(async () => (await visitors.viewers())[1]?.dropped, LONG).toBeGreaterThan(0);
    const [before] = await visitors.viewers();
    await moves(quick);
    await expect
      .poll(async () => (await visitors.viewers())[0]?.frames, LONG)
      .toBeGreaterThan((before?.frames ?? 0) + 15);
    const [unhindered, hindered] = await visitors.viewers();
    expect(unhindered?.dropped).toBeLessThan(hindered?.dropped ?? 0);
    link.rate = Infinity;
    await expect.poll(() => figure(slow, 'Dropped'), LONG).toBeGreaterThan(0);
    await visitors.shot(slow, 'video-slow');
    await moves(slow);
    expect((await visitors.viewers()).map(({ id }) => id)).toContain(before?.id);
  } finally {
    link.stop();
  }
});

test('a recording is made, played while it is, fetched and deleted', async () => {
  interface Recording {
    state: string;
    frames: number;
  }
  const recorded = async () => (await world.ask<{ items: Recording[] }>('/recordings')).items[0];
  const page = await visitors.look(world.https, 'WebCodecs');
  await page.getByRole('button', { name: 'Record' }).click();
  const list = page.getByRole('list', { name: /Recordings/ });
  await list.getByText('recording', { exact: true }).waitFor();
  await expect.poll(async () => (await recorded())?.frames, LONG).toBeGreaterThan(30);
  const isPlayed = () =>
    expect
      .poll(() => list.locator('video').evaluate((video) => (video as HTMLVideoElement).currentTime), LONG)
      .toBeGreaterThan(0.5);
  await list.getByRole('button', { name: 'Play' }).click();
  await isPlayed();
  expect((await recorded())?.state).toBe('recording');
  await visitors.shot(page, 'video-recording');
  await list.getByRole('button', { name: 'Play' }).click();
  await page.getByRole('button', { name: 'End the recording' }).click();
  await page.getByRole('button', { name: 'Record', exact: true }).waitFor();
  await expect.poll(async () => (await recorded())?.state, LONG).toBe('done');
  await list.getByRole('button', { name: 'Play' }).click();
  await isPlayed();
  await list.scrollIntoViewIfNeeded();
  await visitors.shot(page, 'video-recorded');
  const downloads = page.waitForEvent('download');
  await list.getByRole('link', { name: 'Download' }).click();
  const question = '-loglevel error -count_frames -show_entries stream=nb_read_frames -of csv=p=0';
  const counted = execFileSync('ffprobe', [...question.split(' '), await (await downloads).path()]);
  expect(Number(counted.toString().trim())).toBe((await recorded())?.frames);
  await list.getByRole('button', { name: /Delete recording/ }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await list.waitFor({ state: 'detached' });
});
