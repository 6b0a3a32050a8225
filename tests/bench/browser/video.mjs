// Looks at a camera, and says how old its pictures are, and how long the first one takes.

import { logIn, say, wanted, withPage } from './browser.mjs';
import { install } from './stamps.mjs';

const SETTLE = 4000;
const PAUSE = 400;

await withPage(async (page) => {
  if (wanted.player === 'MSE') await page.addInitScript(() => sessionStorage.setItem('holdfast-player', 'mse'));
  if (wanted.login) await logIn(page, wanted.login);
  await page.goto(wanted.path);
  await page.getByRole('button', { name: 'Show the picture' }).waitFor();
  await page.evaluate(install);
  const firsts = [];
  // The first time is the browser's own, which loads what it plays with.
  for (let index = 0; index <= wanted.firsts; index += 1) {
    const took = await page.evaluate(() => globalThis.stamps.begin());
    if (index > 0) firsts.push(took);
    await page.waitForTimeout(PAUSE);
    await page.evaluate(() => globalThis.stamps.end());
    await page.waitForTimeout(PAUSE);
  }
  await page.evaluate(() => globalThis.stamps.begin());
  await page.waitForTimeout(SETTLE);
  const { ages, rate } = await page.evaluate((count) => globalThis.stamps.ages(count), wanted.pictures);
  say({ ages, firsts, rate });
});
