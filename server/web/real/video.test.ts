// Live video with the real server, a real agent and its test cameras, in a real browser: nothing here is played.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { violations } from '../browser/axe.ts';
import { SlowLink } from './slow-link.ts';
import { figure, HASTY, live, LONG, moves, PHONE, testCamera, Visitors } from './visitor.ts';
import { World } from './world.ts';

const world = new World();
const porch = world.agent(
  'porch',
  testCamera('door', 800_000) + testCamera('gate', 800_000) + testCamera('yard', 4_000_000) + HASTY,
);
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
  await expect.poll(() => figure(page, 'Camera'), LONG).toBeGreaterThan(0);
  await visitors.shot(page, `video-${way.toLowerCase()}`);
  expect((await visitors.viewers()).map((viewer) => viewer.way)).toEqual([name]);
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByRole('button', { name: 'Show the picture' }).waitFor();
  await expect.poll(() => visitors.viewers(), LONG).toEqual([]);
  await expect.poll(() => visitors.openTasks(), LONG).toEqual([]);
});

test('by keyboard alone: a picture is kept, shown on all of the screen, and the camera turned off', async () => {
  const page = await visitors.look(world.https, 'WebCodecs');
  const press = async (name: string) => {
    await page.getByRole('button', { name, exact: true }).focus();
    await page.keyboard.press('Enter');
  };
  const downloads = page.waitForEvent('download');
  await press('Keep this picture');
  const kept = await downloads;
  expect(kept.suggestedFilename()).toMatch(/^porch-door-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.png$/);
  const picture = readFileSync(await kept.path());
  expect([picture.toString('latin1', 1, 4), picture.readUInt32BE(16), picture.readUInt32BE(20)]).toEqual([
    'PNG',
    640,
    480,
  ]);
  await press('Full screen');
  await page.waitForFunction(() => document.fullscreenElement?.querySelector('canvas'));
  await moves(page);
  await page.evaluate(() => document.exitFullscreen());
  await press('Picture in picture');
  await page.waitForFunction(() => document.pictureInPictureElement);
  await press('Picture in picture');
  await page.waitForFunction(() => !document.pictureInPictureElement);
  await press('Stop');
  await press('Show the picture');
  await live(page);
  await press('Stop');
});

test('three look at one stream, and can be thrown out, for a while', async () => {
  const first = await visitors.look(world.https, 'WebCodecs', {}, 'gate');
  const second = await visitors.look(world.http, 'WebCodecs', { colorScheme: 'dark' }, 'gate');
  const third = await visitors.look(world.https, 'MSE', PHONE, 'gate');
  for (const page of [first, second, third]) await moves(page);
  await visitors.shot(second, 'video-dark');
  await visitors.shot(third, 'video-phone');
  for (const page of [first, second, third]) expect(await violations(page)).toEqual([]);
  expect((await visitors.openTasks()).length).toBe(1);
  const [, ...others] = await visitors.viewers();
  for (const { id } of others) await world.ask(`/viewers/${id}/stop`, {});
  await second.getByText(/^Thrown out by/).waitFor();
  await third.getByText(/^Thrown out by/).waitFor();
  await visitors.shot(second, 'video-thrown-out-dark');
  await visitors.shot(third, 'video-thrown-out-phone');
  await moves(first);
  expect((await visitors.viewers()).length).toBe(1);
  // It is not for their browsers to stay away.
  for (const page of [second, third]) {
    await page.getByRole('button', { name: 'Try again' }).click();
    await page.getByText(/you can look again in/).waitFor();
  }
  expect((await visitors.viewers()).length).toBe(1);
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
  expect(await violations(page)).toEqual([]);
  const downloads = page.waitForEvent('download');
  await list.getByRole('link', { name: 'Download' }).click();
  const question = '-loglevel error -count_frames -show_entries stream=nb_read_frames -of csv=p=0';
  const counted = execFileSync('ffprobe', [...question.split(' '), await (await downloads).path()]);
  expect(Number(counted.toString().trim())).toBe((await recorded())?.frames);
  await list.getByRole('button', { name: /Delete recording/ }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await list.waitFor({ state: 'detached' });
});
