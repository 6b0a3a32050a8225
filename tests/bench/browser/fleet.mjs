// Opens the Fleet page, and says how fluid it is; then as many more pages' streams as make ten.

import { request } from 'node:https';
import { logIn, say, told, wanted, withPage } from './browser.mjs';

const PAGES = 10;

/** Runs in the page: the time from frame to frame, and the longest task, while `act` is done for so many seconds. */
async function frames({ seconds, act }) {
  let task = 0;
  const observer = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) task = Math.max(task, duration);
  });
  observer.observe({ type: 'longtask' });
  const box = document.querySelector('[role=table]');
  const search = document.querySelector('input[type=search]');
  const texts = ['d', 'de', 'device-1', 'device-12', '127.0', ''];
  const times = [];
  const begun = performance.now();
  let [last, searched, count] = [begun, begun, 0];
  await new Promise((resolve) => {
    const frame = (now) => {
      times.push(now - last);
      last = now;
      if (act === 'scroll') box.scrollTop = (box.scrollTop + 70) % (box.scrollHeight - box.clientHeight);
      if (act === 'search' && now - searched > 200) {
        searched = now;
        search.value = texts[count++ % texts.length];
        search.dispatchEvent(new Event('input', { bubbles: true }));
      }
      if (now - begun < seconds * 1000) requestAnimationFrame(frame);
      else resolve();
    };
    requestAnimationFrame(frame);
  });
  // What belongs to the last frame is told behind it.
  await new Promise((resolve) => setTimeout(resolve, 100));
  observer.disconnect();
  const sorted = times.slice(2).sort((a, b) => a - b);
  const at = (share) => sorted[Math.floor(sorted.length * share)] ?? 0;
  return { median: at(0.5), most: at(0.99), task };
}

async function heapOf(page) {
  const session = await page.context().newCDPSession(page);
  await session.send('HeapProfiler.collectGarbage');
  return (await session.send('Runtime.getHeapUsage')).usedSize;
}

/** Follows a stream as a page does, and reads what comes. */
function follow(url, cookie) {
  return new Promise((resolve, reject) => {
    const headers = { accept: 'text/event-stream', cookie };
    const asked = request(url, { headers, rejectUnauthorized: false, agent: false }, (answer) => {
      if (answer.statusCode !== 200) reject(new Error(`${url}: ${answer.statusCode}`));
      answer.on('data', () => {});
      answer.on('error', () => {});
      resolve();
    });
    asked.on('error', reject);
    asked.end();
  });
}

await withPage(async (page) => {
  const { seconds } = wanted;
  if (!wanted.login) {
    await page.goto('about:blank');
    say({ rest: await page.evaluate(frames, { seconds, act: 'rest' }), heap: await heapOf(page) });
    return;
  }
  await logIn(page, wanted.login);
  const streams = new Set();
  page.on('request', (asked) => {
    if (asked.url().includes('follow=true')) streams.add(asked.url());
  });
  const begun = Date.now();
  await page.goto('/');
  await page.getByText(`of ${wanted.devices.toLocaleString('en')} devices online`).waitFor();
  say(Date.now() - begun);
  if (!(await told())) return;
  const seen = {};
  for (const act of ['rest', 'scroll', 'search']) seen[act] = await page.evaluate(frames, { seconds, act });
  say({ ...seen, heap: await heapOf(page) });
  if (!(await told())) return;
  const cookies = await page.context().cookies();
  const cookie = cookies.map(({ name, value }) => `${name}=${value}`).join('; ');
  for (let pages = 1; pages < PAGES; pages += 1) await Promise.all([...streams].map((url) => follow(url, cookie)));
  say(PAGES);
  await told();
});
