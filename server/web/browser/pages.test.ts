// Each page as it looks: light, dark and on a phone; nothing that breaks the policy, and nothing that axe finds wrong.

import type { BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PASSWORD } from '../dev/people.ts';
import { violations } from './axe.ts';
import { shot, start, type Console } from './console.ts';

const LOOKS: Record<string, BrowserContextOptions> = {
  light: { colorScheme: 'light' },
  dark: { colorScheme: 'dark' },
  phone: {
    colorScheme: 'light',
    viewport: { width: 390, height: 844 },
    deviceScaleFactor: 2,
    isMobile: true,
    hasTouch: true,
  },
};

interface Scene {
  path: string;
  who?: string | null;
  /** What is there when the page is. */
  ready: string;
  then?: (page: Page) => Promise<void>;
}

const SCENES: Record<string, Scene> = {
  login: { path: '/', who: null, ready: 'text=No password yet?' },
  'first-login': { path: '/#/first/welcome', who: null, ready: 'text=Choose a password' },
  fleet: { path: '/', ready: '[aria-rowindex="5"]' },
  'fleet-nothing-found': { path: '/?q=nothing-like-this', ready: 'text=No device matches' },
  device: { path: '/devices/camera-1', ready: '.track .there' },
  'device-day': {
    path: '/devices/camera-1',
    ready: '.track .there',
    then: async (page) => {
      await page.getByRole('button', { name: '24 hours' }).click();
      await page.getByText('Sessions', { exact: true }).click();
    },
  },
  messages: { path: '/devices/camera-1/messages', ready: 'article' },
  'messages-hostile': { path: '/devices/greenhouse-1/messages', ready: 'article' },
  'device-events': { path: '/devices/camera-1/events', ready: 'article' },
  tasks: {
    path: '/devices/camera-1/tasks',
    ready: 'text=What it wrote',
    then: (page) => page.getByText('What it wrote').first().click(),
  },
  video: { path: '/devices/camera-1/video', ready: 'text=No camera yet' },
  ssh: { path: '/devices/camera-1/ssh', ready: 'text=holdfast ssh camera-1' },
  'no-such-device': { path: '/devices/nobody', ready: 'text=There is no such device' },
  events: { path: '/events', ready: 'article' },
  server: { path: '/server', ready: 'text=store writer' },
  enrol: { path: '/enrol', ready: 'text=How it goes' },
  'enrol-line': {
    path: '/enrol',
    ready: 'text=How it goes',
    then: async (page) => {
      await page.getByLabel('Name').fill('lobby-99');
      await page.getByRole('button', { name: 'Make the line' }).click();
      await page.getByText('Waiting for the device').waitFor();
    },
  },
  users: { path: '/users', ready: 'text=viktor' },
  'users-add': {
    path: '/users',
    ready: 'text=viktor',
    then: (page) => page.getByRole('button', { name: 'Add a user' }).click(),
  },
  'users-manage': {
    path: '/users',
    ready: 'text=viktor',
    then: (page) => page.getByRole('button', { name: 'Manage viktor' }).click(),
  },
  me: { path: '/me', ready: 'text=this one' },
  'me-code': {
    path: '/me',
    ready: 'text=this one',
    then: async (page) => {
      await page.getByRole('button', { name: 'Set it up' }).click();
      await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
      await page.getByRole('button', { name: 'Go on' }).click();
      await page.getByText('Turn it on').waitFor();
    },
  },
  'me-token': {
    path: '/me',
    ready: 'text=this one',
    then: async (page) => {
      await page.getByRole('button', { name: 'Make a token' }).click();
      // Each look makes its own.
      await page.getByLabel('What it is for').fill(`thermometer-${Math.round(performance.now())}`);
      await page.getByRole('button', { name: 'Make it' }).click();
      await page.getByText('It is not shown again').waitFor();
    },
  },
  nowhere: { path: '/nowhere', ready: 'text=There is no such page' },
  'not-for-viewers': { path: '/users', who: 'viktor', ready: 'text=For admins' },
};

let app: Console;
beforeAll(async () => {
  app = await start(60);
  await app.develop('churn', { rate: 1 });
});
afterAll(() => app.stop());

describe.each(Object.keys(LOOKS))('%s', (look) => {
  test.each(Object.keys(SCENES))('%s', async (name) => {
    const scene = SCENES[name] as Scene;
    const page = await app.open(scene.path, scene.who === undefined ? 'anna' : scene.who, LOOKS[look]);
    await page.locator(scene.ready).first().waitFor();
    await scene.then?.(page);
    // Whatever is set in motion comes to rest.
    await page.waitForTimeout(400);
    await shot(page, `${name}-${look}`);
    expect(
      (await page.evaluate(() => document.documentElement.scrollWidth)) - (page.viewportSize()?.width ?? 0),
      'the page is wider than the window',
    ).toBeLessThanOrEqual(0);
    expect(await violations(page)).toEqual([]);
    expect(app.complaints()).toEqual([]);
    await page.context().close();
  });
});
