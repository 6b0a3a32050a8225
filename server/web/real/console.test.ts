// The whole way through the console, with the real server and real agents: nothing here is played.

import { createHmac } from 'node:crypto';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { PASSWORD, Tabs } from './tabs.ts';
import { World } from './world.ts';

const world = new World();
const camera = world.agent('camera');
const lobby = world.agent('lobby');
const tabs = new Tabs('console', 30_000);
const tab = tabs.open.bind(tabs);
const shot = tabs.shot.bind(tabs);

beforeAll(async () => {
  await world.start();
  await tabs.start();
});
afterAll(async () => {
  await tabs.stop();
  await world.stop();
});
afterEach((context) => tabs.leave(context));

/** What an authenticator shows at this time. */
function codeOf(secret: string, time: number): string {
  const digits = [...secret].map((each) =>
    'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(each).toString(2).padStart(5, '0'),
  );
  const bytes = digits.join('').match(/.{8}/g) ?? [];
  const count = Buffer.alloc(8);
  count.writeBigUInt64BE(BigInt(Math.floor(time / 30_000)));
  const hash = createHmac('sha1', Buffer.from(bytes.map((byte) => Number.parseInt(byte, 2))))
    .update(count)
    .digest();
  const number = hash.readUInt32BE((hash.at(-1) ?? 0) & 15) & 0x7fff_ffff;
  return String(number % 1_000_000).padStart(6, '0');
}

const heading = (page: Page, name: string) => page.getByRole('heading', { name, level: 1, exact: true }).waitFor();

async function firstLogin(page: Page, token: string): Promise<void> {
  await page.goto(`/#/first/${token}`);
  await page.getByLabel('New password').fill(PASSWORD);
  await page.getByLabel('Once more').fill(PASSWORD);
  await page.getByRole('button', { name: 'Set the password' }).click();
  await heading(page, 'Fleet');
}

async function login(page: Page, path: string, name = 'anna'): Promise<void> {
  await page.goto(path);
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('link', { name: /^You/ }).waitFor();
}

test('the link of a one-time login, a device that is enrolled, and comes online without a reload', async () => {
  const page = await tab(world.http);
  await firstLogin(page, await world.welcome('anna', 'admin'));
  await shot(page, 'fleet-empty');
  await page.goto('/enrol');
  await page.getByLabel('Name').fill('camera');
  await page.getByRole('button', { name: 'Make the line' }).click();
  await page.getByText('Waiting for the device').waitFor();
  await shot(page, 'enrol');
  await camera.enrol((await page.locator('pre').first().textContent()) ?? '');
  camera.start();
  await page.getByRole('link', { name: 'camera' }).waitFor();
  await shot(page, 'enrolled');
  await page.goto('/');
  const row = page.locator('[role=row]', { hasText: 'lobby' });
  await lobby.enrol(await world.tell('enroll', '--name', 'lobby'));
  await row.getByText('Offline').or(row.getByText('Never')).first().waitFor();
  lobby.start();
  await row.getByText('Online').waitFor();
  await shot(page, 'fleet');
  await lobby.end();
  await row.getByText('Offline').waitFor();
});

test('a message goes out and is echoed, one comes in, and both are events', async () => {
  const page = await tab(world.http);
  await login(page, '/devices/camera/messages');
  await page.locator('.about').getByText('Online').waitFor();
  await page.getByLabel('Message to the device').fill('close the door');
  await page.keyboard.press('Enter');
  await page.locator('article', { hasText: 'close the door' }).getByText('delivered').waitFor();
  await camera.tell('send', 'the door is <b>closed</b>');
  await page.getByText('the door is <b>closed</b>', { exact: true }).waitFor();
  await shot(page, 'messages');
  await page.goto('/devices/camera/tasks');
  await page.getByText('Live', { exact: true }).waitFor();
  await page.getByText('No tasks yet').waitFor();
  for (const [path, ready] of [
    ['/devices/camera', 'h2'],
    ['/devices/camera/events', 'article'],
    ['/devices/camera/tasks', 'h2'],
    ['/devices/camera/ssh', 'text=holdfast ssh camera'],
    ['/events', 'article'],
    ['/server', 'text=device listener'],
  ] as const) {
    await page.goto(path);
    await page.locator(ready).first().waitFor();
    await page.getByText('Live', { exact: true }).waitFor();
    await shot(page, path.slice(1).replaceAll('/', '-'));
    expect(await page.getByText("can't be shown").count(), path).toBe(0);
  }
  await page.goto('/events');
  await page.getByText('Message sent').first().waitFor();
  await page.goto('/server');
  await page.getByText('1 of 2 online').waitFor();
});

test('a long conversation: its end first, and older messages when they are asked for', async () => {
  for (let number = 1; number <= 230; number += 10) {
    const numbers = Array.from({ length: 10 }, (_, index) => number + index);
    await Promise.all(numbers.map((each) => camera.tell('send', `reading ${each}.`)));
  }
  const page = await tab(world.http);
  await login(page, '/devices/camera/messages');
  await page.locator('article').nth(199).waitFor();
  expect(await page.getByText('close the door').count()).toBe(0);
  await page.getByRole('button', { name: /earlier/i }).click();
  await page.getByText('close the door').waitFor();
  expect(await page.locator('article').count()).toBe(232);
});

test('a script that somebody has planted does not run', async () => {
  const page = await tab(world.http);
  const answer = await page.goto('/');
  expect(answer?.headers()['content-security-policy']).toContain("default-src 'none'; script-src 'self';");
  const ran = await page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'globalThis.planted = true';
    document.head.append(script);
    return 'planted' in globalThis;
  });
  expect(ran).toBe(false);
  expect(tabs.complaints.splice(0).join()).toContain('Content Security Policy');
});

test('a program asks with a token that was made here, and no longer when it is revoked', async () => {
  const page = await tab(world.http);
  await login(page, '/me');
  await page.getByRole('button', { name: 'Make a token' }).click();
  await page.getByLabel('What it is for').fill('thermometer');
  await page.getByRole('button', { name: 'Make it' }).click();
  await page.getByText('It is not shown again').waitFor();
  await shot(page, 'token');
  const token = (await page.locator('.made pre').textContent()) ?? '';
  const ask = () => fetch(`${world.http}/api/v1/me`, { headers: { authorization: `Bearer ${token.trim()}` } });
  expect(await (await ask()).json()).toMatchObject({ name: 'anna', role: 'admin' });
  await page.getByRole('button', { name: 'Revoke thermometer' }).click();
  await page.getByText('There is none.').waitFor();
  expect((await ask()).status).toBe(401);
});

test('users: one is added, looks, may not more, and is thrown out', async () => {
  const page = await tab(world.http);
  await login(page, '/users');
  await page.getByRole('button', { name: 'Add a user' }).click();
  await page.getByRole('dialog').getByLabel('Name').fill('berta');
  await page.getByRole('dialog').getByRole('button', { name: /^Add/ }).click();
  const link = await page
    .getByRole('dialog', { name: /link for berta/ })
    .locator('pre')
    .textContent();
  await shot(page, 'users-link');
  await page.keyboard.press('Escape');
  // Somebody else adds one, too.
  await world.welcome('carla', 'viewer');
  await page.locator('li', { hasText: 'carla' }).waitFor();
  const other = await tab(world.http, { colorScheme: 'dark' });
  await firstLogin(other, link?.split('/#/first/')[1] ?? '');
  await other.locator('[role=row]', { hasText: 'camera' }).getByText('Online').waitFor();
  expect(await other.getByRole('link', { name: 'Enrol' }).count()).toBe(0);
  await shot(other, 'fleet-viewer-dark');
  await page.reload();
  const row = page.locator('li', { hasText: 'berta' });
  await row.getByRole('button', { name: 'Manage berta' }).click();
  await shot(page, 'users');
  await page.getByRole('dialog').getByRole('button', { name: 'Revoke…' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
  await row.getByText('revoked').waitFor();
  await other.getByRole('heading', { name: 'Log in' }).waitFor();
});

test('over TLS: a wrong password, the right one, live, out again', async () => {
  const page = await tab(world.https);
  await page.goto('/me');
  await page.getByLabel('Name').fill('anna');
  await page.getByLabel('Password').fill('something else');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('alert').getByText('is wrong').waitFor();
  await shot(page, 'login-wrong');
  await login(page, '/me');
  await heading(page, 'You');
  await shot(page, 'me');
  // A wrong password here is said, and logs nobody out.
  await page.getByLabel('Password now').fill('something else');
  await page.getByLabel('New password').fill('another password');
  await page.getByLabel('Once more').fill('another password');
  await page.getByRole('button', { name: 'Change the password' }).click();
  await page.getByRole('alert').getByText('not your password').waitFor();
  const cookie = (await page.context().cookies()).find(({ name }) => name === '__Host-holdfast');
  expect(cookie).toMatchObject({ httpOnly: true, secure: true, sameSite: 'Strict' });
  await page.goto('/');
  const row = page.locator('[role=row]', { hasText: 'lobby' });
  await row.getByText('Offline').waitFor();
  lobby.start();
  await row.getByText('Online').waitFor();
  await page.goto('/me');
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.getByRole('heading', { name: 'Log in' }).waitFor();
});

test('a second factor: it is set up, and asked for', async () => {
  const page = await tab(world.https, { colorScheme: 'dark' });
  await firstLogin(page, await world.welcome('tina', 'viewer'));
  await page.goto('/me');
  await page.getByRole('button', { name: 'Set it up…' }).click();
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await page.keyboard.press('Enter');
  const secret = await page.locator('form pre').textContent();
  await page.getByRole('textbox', { name: 'Code' }).fill(codeOf(secret ?? '', Date.now()));
  await shot(page, 'second-factor');
  await page.keyboard.press('Enter');
  await page.getByText('A code of your authenticator is asked for').waitFor();
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.getByLabel('Name').fill('tina');
  await page.getByLabel('Password').fill(PASSWORD);
  await page.keyboard.press('Enter');
  // Each code is taken once: this is the next one.
  await page.getByRole('textbox', { name: 'Code' }).fill(codeOf(secret ?? '', Date.now() + 30_000));
  await page.keyboard.press('Enter');
  await page.getByRole('link', { name: /^You/ }).waitFor();
});

test('the server goes and comes back: that is said, and nothing is missed', async () => {
  const page = await tab(world.http, { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true });
  await login(page, '/devices/camera/messages');
  await page.getByText('Live', { exact: true }).waitFor();
  await world.end();
  await page.getByText('Connection lost').waitFor();
  await shot(page, 'connection-lost-phone');
  await camera.tell('send', 'said while nobody listened');
  await world.start();
  await page.getByText('said while nobody listened').waitFor();
  await page.getByText('Live', { exact: true }).waitFor();
  await shot(page, 'messages-phone');
});
