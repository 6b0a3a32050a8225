// What the scripts share: the browser, somebody who is logged in, and whoever has started the script.

import { createInterface } from 'node:readline';
import { chromium } from '../../../server/web/node_modules/playwright-core/index.mjs';

const PASSWORD = 'correct horse battery';
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** What is wanted of the script. */
export const wanted = JSON.parse(process.argv[2]);

export function say(what) {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

/** Waits until the script is told to go on; gives whether it is to, and not to end. */
export async function told() {
  return !(await lines.next()).done;
}

/** Runs `act` with a page, and closes the browser however that ends. */
export async function withPage(act) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic'],
  });
  try {
    const context = await browser.newContext({
      viewport: { width: 1280, height: 800 },
      baseURL: wanted.address,
      ignoreHTTPSErrors: true,
    });
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    await act(page);
  } finally {
    await browser.close();
  }
  process.exit();
}

/** Logs in by a one-time login. */
export async function logIn(page, token) {
  await page.goto(`/#/first/${token}`);
  await page.getByLabel('New password').fill(PASSWORD);
  await page.getByLabel('Once more').fill(PASSWORD);
  await page.getByRole('button', { name: 'Set the password' }).click();
  await page.getByRole('heading', { name: 'Fleet', level: 1, exact: true }).waitFor();
}
