// Nothing there yet, on its way, and gone wrong: each state has a look of its own.

import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { violations } from './axe.ts';
import { shot, start, type Console } from './console.ts';

let app: Console;
beforeAll(async () => {
  app = await start(0);
});
afterAll(() => app.stop());

async function look(page: Page, name: string): Promise<void> {
  await page.waitForTimeout(500);
  await shot(page, name);
  expect(await violations(page)).toEqual([]);
  expect(app.complaints()).toEqual([]);
  await page.context().close();
}

test('a fleet without devices says how to get one', async () => {
  const page = await app.open('/');
  await page.getByRole('link', { name: 'Enrol the first device' }).waitFor();
  await look(page, 'empty-fleet');
});

test('a server where nothing has happened', async () => {
  const page = await app.open('/events');
  await page.getByText('Nothing has happened yet').waitFor();
  await look(page, 'empty-events');
});

test('a device that has said nothing, and was never there', async () => {
  // The first device of the simulated world talks.
  await app.develop('enrol', { name: 'chatty-1' });
  await app.develop('enrol', { name: 'fresh-1' });
  const page = await app.open('/devices/fresh-1/messages');
  await page.getByText('No messages yet').waitFor();
  await look(page, 'empty-messages');
});

test('answers that take their time show that they are on their way', async () => {
  const page = await app.open('/', 'anna');
  await page.route('**/api/v1/events*', () => {});
  await page.getByRole('link', { name: 'Events' }).click();
  await page.getByText('Loading events').waitFor({ state: 'attached' });
  await look(page, 'loading');
});

test('a list that fails says why, and is asked for again', async () => {
  const page = await app.open('/', 'anna');
  await page.route('**/api/v1/events*', (route) =>
    route.fulfill({
      status: 500,
      json: {
        error: {
          code: 'store',
          message: 'the store could not be read',
          next_step: 'look into the log of `holdfast serve`',
        },
      },
    }),
  );
  await page.getByRole('link', { name: 'Events' }).click();
  await page.getByText('The store could not be read').waitFor();
  expect(await page.locator('main code').textContent()).toBe('holdfast serve');
  await page.unroute('**/api/v1/events*');
  await shot(page, 'failure');
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.locator('article').first().waitFor();
  await page.context().close();
});

test('a server that does not answer', async () => {
  const page = await app.open('/', 'anna');
  await page.route('**/api/v1/me', (route) => route.abort());
  await page.reload();
  await page.getByText('The server does not answer').waitFor();
  await look(page, 'no-answer');
});

test('a session that has ended asks for the login, and goes on where it was', async () => {
  const page = await app.open('/events', 'anna');
  await page.locator('article').first().waitFor();
  await page.context().clearCookies();
  await app.develop('cut', { ms: 100 });
  await page.getByText('Your session has ended').waitFor();
  await page.getByLabel('Name').fill('anna');
  await page.getByLabel('Password').fill('correct horse battery');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Events', level: 1 }).waitFor();
  await page.context().close();
});
