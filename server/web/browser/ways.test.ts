// The ways through the console, in a real browser: by pointer and by keyboard alone, live, cut off, and with hostile devices.

import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { CODE, PASSWORD } from '../dev/people.ts';
import { HOSTILE_TEXTS } from '../dev/hostile.ts';
import { POLICY } from '../dev/plugin.ts';
import { shot, start, type Console } from './console.ts';

let app: Console;
beforeAll(async () => {
  app = await start(60);
  await app.develop('churn', { rate: 0 });
});
afterAll(() => app.stop());
afterEach(async () => {
  expect(app.complaints()).toEqual([]);
  for (const context of app.browser.contexts()) await context.close();
});

const focused = (page: Page) => page.evaluate(() => document.activeElement?.textContent?.trim() ?? '');

test('the policy of the real server stands in each answer', async () => {
  const page = await app.open('/');
  const answer = await page.request.get(app.url);
  expect(answer.headers()['content-security-policy']).toBe(POLICY);
});

test('a wrong password, a second factor, a code, out again', async () => {
  const page = await app.open('/events', null);
  await page.getByLabel('Name').fill('tina');
  await page.getByLabel('Password').fill('wrong');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('alert').getByText('wrong').waitFor();
  await page.getByLabel('Password').fill(PASSWORD);
  await page.keyboard.press('Enter');
  await page.getByLabel('Code').fill(CODE);
  await page.keyboard.press('Enter');
  // Where they wanted to go.
  await page.getByRole('heading', { name: 'Events', level: 1 }).waitFor();
  await page.getByRole('link', { name: /^You/ }).click();
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.getByRole('heading', { name: 'Log in' }).waitFor();
});

test('a one-time login sets the password, once', async () => {
  const page = await app.open('/#/first/welcome', null);
  await page.getByLabel('New password').fill('a password of nora');
  await page.getByLabel('Once more').fill('a password of nora');
  await page.getByRole('button', { name: 'Set the password' }).click();
  await page.getByRole('heading', { name: 'Fleet', level: 1 }).waitFor();
  expect(page.url()).toBe(`${app.url}/`);
  // A viewer is not offered what they may not do.
  expect(await page.getByRole('link', { name: 'Enrol' }).count()).toBe(0);
  const again = await app.open('/#/first/welcome', null);
  await again.getByLabel('New password').fill('another password');
  await again.getByLabel('Once more').fill('another password');
  await again.keyboard.press('Enter');
  await again.getByRole('alert').getByText('has been used').waitFor();
});

test('by keyboard alone: search, a device, a message, its echo', async () => {
  const page = await app.open('/');
  await page.locator('[aria-rowindex="5"]').waitFor();
  await page.keyboard.press('Tab');
  expect(await focused(page)).toBe('Skip to the page');
  await page.keyboard.press('Enter');
  await page.keyboard.press('/');
  await page.keyboard.type('camera');
  await page.keyboard.press('ArrowDown');
  expect(await focused(page)).toBe('camera-1');
  await page.keyboard.press('ArrowDown');
  expect(await focused(page)).toBe('camera-2');
  await page.keyboard.press('End');
  expect(await focused(page)).not.toBe('camera-2');
  await page.keyboard.press('Home');
  await shot(page, 'keyboard-focus');
  await page.keyboard.press('Enter');
  await page.locator('h1', { hasText: 'camera-1' }).waitFor();
  // The focus is at the head of the page that has come.
  await page.waitForFunction(() => document.activeElement?.tagName === 'H1');
  await page.keyboard.press('Tab');
  while (!(await focused(page)).startsWith('Messages')) await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.getByLabel('Message to the device').focus();
  await page.keyboard.type('close the door');
  await page.keyboard.press('Enter');
  const sent = page.locator('article', { hasText: 'close the door' });
  await sent.getByText('waiting').waitFor();
  await sent.getByText('delivered').waitFor();
  await page.locator('h1').focus();
  await page.keyboard.press('g');
  await page.keyboard.press('e');
  await page.getByRole('heading', { name: 'Events', level: 1 }).waitFor();
  await page.getByText('Message sent').first().waitFor();
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keys' }).waitFor();
  await page.keyboard.press('Escape');
  await page.goBack();
  await page.locator('h1', { hasText: 'camera-1' }).waitFor();
});

test('times are those of the viewer, and the exact instant shows where the pointer rests', async () => {
  for (const timezoneId of ['Asia/Tokyo', 'America/New_York']) {
    const page = await app.open('/devices/camera-1/messages', 'anna', { timezoneId, locale: 'en-GB' });
    const time = page.locator('article time').first();
    await time.waitFor();
    const instant = new Date((await time.getAttribute('datetime')) ?? '');
    const clock = instant.toLocaleTimeString('en-GB', { timeZone: timezoneId });
    expect(await time.textContent()).toBe(clock);
    const [inZone, asTold] = ((await time.getAttribute('title')) ?? '').split('\n');
    expect(inZone).toContain(clock);
    expect(asTold).toBe(instant.toISOString());
  }
});

test('enrolling: the line is copied, and the device comes without a reload', async () => {
  const page = await app.open('/enrol');
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await page.getByLabel('Name').fill('lobby-77');
  await page.getByRole('button', { name: 'Make the line' }).click();
  await page.getByText('Waiting for the device').waitFor();
  const line = await page.locator('pre').first().textContent();
  expect(line).toMatch(/^holdfast-agent enroll hf1\./);
  await page.getByRole('button', { name: /^Copy: The command/ }).click();
  await page.getByRole('status').getByText('Copied').waitFor({ state: 'attached' });
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(line);
  await app.develop('enrol', { name: 'lobby-77' });
  await page.getByRole('link', { name: 'lobby-77' }).waitFor();
  await page.getByRole('link', { name: 'lobby-77' }).click();
  await page.locator('.about').getByText('Online').waitFor();
});

test('what a device does is seen at once, in the list and on its page', async () => {
  const list = await app.open('/?q=kiosk-1');
  const detail = await app.open('/devices/kiosk-1/messages');
  const row = list.locator('[role=row]', { hasText: 'kiosk-1' }).first();
  await app.develop('connect', { device: 'kiosk-1' });
  await row.getByText('Online').waitFor();
  await app.develop('disconnect', { device: 'kiosk-1' });
  await row.getByText('Offline').waitFor();
  await detail.locator('.about').getByText('Offline').waitFor();
  await app.develop('write', { device: 'kiosk-1', body: 'here I am' });
  await detail.getByText('here I am').waitFor();
});

test('tasks: started, stopped, told how they ended', async () => {
  await app.develop('connect', { device: 'tower-1' });
  const page = await app.open('/devices/tower-1/tasks');
  await page.getByRole('button', { name: 'Reboot…' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Reboot' }).click();
  const task = page.locator('li', { hasText: 'reboot' }).first();
  await task.getByText('running').waitFor();
  await task.getByRole('button', { name: 'Stop' }).click();
  await task.getByText('stopped by anna').waitFor();
});

test('a lost connection is said, comes back by itself, and nothing is missed', async () => {
  const page = await app.open('/devices/camera-1/messages');
  await page.locator('article').first().waitFor();
  await page.getByText('Live', { exact: true }).waitFor();
  await app.develop('cut', { ms: 4000 });
  await page.getByText('Connection lost').waitFor();
  await shot(page, 'connection-lost');
  await app.develop('write', { device: 'camera-1', body: 'said while nobody listened' });
  await page.getByText('said while nobody listened').waitFor({ timeout: 20_000 });
  await page.getByText('Live', { exact: true }).waitFor({ timeout: 20_000 });
  expect(await page.getByText('said while nobody listened').count()).toBe(1);
});

test('a user is added, gets a link, changes roles, and is revoked', async () => {
  const page = await app.open('/users');
  await page.getByRole('button', { name: 'Add a user' }).click();
  await page.getByRole('dialog').getByLabel('Name').fill('berta');
  await page.getByRole('dialog').getByRole('button', { name: /^Add/ }).click();
  const link = await page
    .getByRole('dialog', { name: /link for berta/ })
    .locator('pre')
    .textContent();
  expect(link).toContain(`${app.url}/#/first/`);
  await page.keyboard.press('Escape');
  const row = page.locator('li', { hasText: 'berta' });
  await row.getByLabel('Role of berta').selectOption('admin');
  await page.getByText('berta is an admin now').waitFor();
  await row.getByRole('button', { name: 'Manage berta' }).click();
  await page.getByRole('button', { name: 'A line for the command line' }).click();
  await page.getByText('To run on their own machine').waitFor();
  await page.getByRole('dialog').getByRole('button', { name: 'Revoke…' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
  await row.getByText('revoked').waitFor();
});

test('hostile devices are text, everywhere', async () => {
  const page = await app.open('/');
  await page.locator('[aria-rowindex="5"]').waitFor();
  for (const path of [
    '/',
    '/devices/greenhouse-1/messages',
    '/devices/camera-2',
    '/devices/__proto__',
    '/events',
    '/server',
    '/devices/%3Cb%3Enobody%3C%2Fb%3E',
  ]) {
    await page.goto(app.url + path);
    await page.locator('h1').waitFor();
    await page.waitForTimeout(700);
    expect(await page.title()).toContain('Holdfast');
    expect(await page.locator('main script, main img, main b, main svg[onload]').count()).toBe(0);
  }
  await page.goto(`${app.url}/devices/greenhouse-1/messages`);
  await page.getByText(HOSTILE_TEXTS[0] ?? '', { exact: true }).waitFor();
  expect(await page.locator('main').innerText()).not.toMatch(/[\u0000-\u0008\u200b\u202a-\u202e\u2066-\u2069]/);
  await page.goto(`${app.url}/devices/nobody-of-this-name`);
  await page.getByText('There is no such device').waitFor();
});

test('a planted script is blocked by the policy', async () => {
  const page = await app.open('/');
  await page.locator('[aria-rowindex="5"]').waitFor();
  const blocked = await page.evaluate(async () => {
    const seen: string[] = [];
    document.addEventListener('securitypolicyviolation', (event) => seen.push(event.effectiveDirective));
    const script = document.createElement('script');
    script.textContent = 'document.title = "owned"';
    document.body.append(script);
    const box = document.createElement('div');
    box.innerHTML = '<img src=x onerror="document.title=\'owned\'"><p style="color: red">x</p>';
    document.body.append(box);
    await fetch('https://elsewhere.example/').catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 300));
    return { seen, title: document.title };
  });
  expect(blocked.seen.sort()).toEqual(['connect-src', 'script-src-attr', 'script-src-elem', 'style-src-attr']);
  expect(blocked.title).not.toBe('owned');
  // These were made on purpose.
  app.complaints();
});

test('colours: as the system says, until somebody chooses', async () => {
  const page = await app.open('/me', 'anna', { colorScheme: 'dark' });
  await page.locator('h1').waitFor();
  const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const dark = await ground();
  await page.getByRole('main').getByRole('button', { name: 'Light' }).click();
  expect(await ground()).not.toBe(dark);
  await page.reload();
  await page.locator('h1').waitFor();
  expect(await ground()).not.toBe(dark);
  await page.getByRole('main').getByRole('button', { name: 'As the system' }).click();
  expect(await ground()).toBe(dark);
});
