// What devices, people and browsers say to deceive or break whoever looks: with the real server and real agents. All of it is
// text, wherever it shows; and should markup get through some day, the policy of the server keeps it from doing anything.

import { request } from 'node:http';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { HOSTILE_TEXTS } from '../dev/hostile.ts';
import { POLICY } from '../dev/plugin.ts';
import { PASSWORD, Tabs } from './tabs.ts';
import { World } from './world.ts';

const MARKUP = '<img src=x onerror="globalThis.planted=1">';
const TURNED = '\u202Egnp.exe\u202C\u200B\u2066';
/** Invisible, or turns what stands beside it. */
const DECEIVES = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/;

const world = new World();
const tabs = new Tabs('hostile', 30_000);
const { complaints } = tabs;
let cookie: { name: string; value: string };

/** A camera whose program has nothing but last words. */
const CAMERA = `[[cameras]]
name = "door"
kind = "command"
command = ["/bin/sh", "-c", ${JSON.stringify(`printf '%s\\033[31m\\n' '${MARKUP}${TURNED}' >&2; exit 1`)}]
[tasks.video]
restarts = 0
`;
/** By the names of devices: what they call their hosts. */
const HOSTS: Record<string, string> = {
  markup: MARKUP,
  script: '<script>globalThis.planted=1</script>',
  turned: `gate${TURNED}"><svg onload=planted=1>`,
  // A name is one line: it is cut at the first control character.
  controls: 'one line\n\u0007\u001b[31mred\u001b[0m',
};
const agents = Object.entries(HOSTS).map(([name, host]) => ({
  name,
  agent: world.agent(name, `host_name = ${JSON.stringify(host)}\n${name === 'markup' ? CAMERA : ''}`),
}));
const [first] = agents;

/** Asks as a browser does that calls itself so. */
function post(path: string, body: unknown, calls: string): Promise<{ status: number; cookie: string }> {
  const text = JSON.stringify(body);
  const headers = {
    origin: world.http,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    // A header is bytes; whoever sends it need not be a browser.
    'user-agent': Buffer.from(calls, 'utf8').toString('latin1'),
  };
  return new Promise((resolve, reject) => {
    const asked = request(`${world.http}/api/v1${path}`, { method: 'POST', headers }, (response) => {
      response.resume();
      const [set] = response.headers['set-cookie'] ?? [];
      response.on('end', () => resolve({ status: response.statusCode ?? 0, cookie: set?.split(';')[0] ?? '' }));
    });
    asked.on('error', reject);
    asked.end(text);
  });
}

beforeAll(async () => {
  await world.start();
  for (const { name, agent } of agents) {
    await agent.enrol(await world.tell('enroll', '--name', name));
    agent.start();
  }
  const token = await world.welcome('anna', 'admin');
  const login = await post('/login/first', { token, password: PASSWORD }, `${MARKUP}${TURNED}`);
  expect(login.status).toBe(200);
  const [name = '', value = ''] = login.cookie.split('=');
  cookie = { name, value };
  await tabs.start();
});
afterAll(async () => {
  await tabs.stop();
  await world.stop();
});
afterEach((context) => tabs.leave(context));

/** A page of the console, logged in by the login of the hostile browser. */
async function open(path: string): Promise<Page> {
  const page = await tabs.open(world.http);
  await page.context().addCookies([{ ...cookie, url: world.http }]);
  page.on('dialog', (dialog) => complaints.push(`dialog: ${dialog.message()}`));
  await page.goto(path);
  return page;
}

/** Nothing of it is more than text, and nothing of the text deceives. */
async function isText(page: Page, what: string): Promise<void> {
  const found = await page.evaluate((pattern) => {
    const deceives = new RegExp(pattern);
    const elements = [...document.querySelectorAll('*')];
    const attributes = elements.flatMap((element) => [...element.attributes]);
    return {
      planted: 'planted' in globalThis,
      elements: [...document.querySelectorAll('img[src=x], svg[onload], script:not([src]), b')].map(
        (element) => element.outerHTML,
      ),
      handlers: attributes.filter(({ name }) => name.startsWith('on')).map(({ name }) => name),
      attributes: attributes.filter(({ value }) => deceives.test(value)).map(({ name, value }) => `${name}=${value}`),
      links: attributes.filter(({ name, value }) => name === 'href' && /^\s*(javascript|data):/i.test(value)).length,
      text: document.body.innerText.split('\n').filter((line) => deceives.test(line)),
      title: deceives.test(document.title),
    };
  }, DECEIVES.source);
  const none = { planted: false, elements: [], handlers: [], attributes: [], links: 0, text: [], title: false };
  expect(found, what).toEqual(none);
}

test('what devices and people say is text, wherever it shows', async () => {
  const messages = HOSTILE_TEXTS.filter((text) => !text.includes('\0'));
  for (const text of messages) await first?.agent.tell('send', text);
  await world.ask('/devices/markup/messages', { kind: 'text', body: `${MARKUP}${TURNED}` });
  // The camera fails, and its program's last words are told.
  await expect(world.ask('/devices/markup/cameras/door/live.mp4')).rejects.toThrow('onerror');
  await post('/login', { name: `${MARKUP}${TURNED}`, password: 'a wrong password' }, `${MARKUP}${TURNED}`);
  for (const name of [MARKUP, `anna${TURNED}`, 'a'.repeat(64), '__proto__'])
    await expect(world.tell('user', 'add', name, '--role', 'viewer')).rejects.toThrow('is no name here');

  const named = (page: Page) => page.getByText('onerror="globalThis.planted=1"').first();
  const pages: [path: string, ready: (page: Page) => { waitFor(): Promise<void> }][] = [
    ['/', named],
    ['/devices/markup', named],
    ['/devices/markup/messages', (page) => page.getByText(messages[0] ?? '', { exact: true }).first()],
    ['/devices/markup/events', (page) => page.locator('article').first()],
    ['/devices/markup/tasks', named],
    ['/devices/turned', (page) => page.getByText('gate⟨U+202E⟩gnp.exe').first()],
    ['/devices/controls', (page) => page.getByText('one line').first()],
    ['/events', (page) => page.locator('article').first()],
    ['/me', named],
    ['/users', (page) => page.getByText('anna').first()],
    ['/server', (page) => page.getByText('device listener').first()],
  ];
  for (const [path, ready] of pages) {
    const page = await open(path);
    await ready(page).waitFor();
    await page.getByText('Live', { exact: true }).first().waitFor();
    await isText(page, path);
    await tabs.shot(page, `hostile${path.replaceAll('/', '-')}`);
    await page.context().close();
  }
});

test('the events of hostile words are opened, and are text', async () => {
  const page = await open('/events');
  await page.locator('article').first().waitFor();
  const more = page.locator('article').getByRole('button');
  for (let number = (await more.count()) - 1; number >= 0; number -= 1) await more.nth(number).click();
  expect(await page.getByText('onerror="globalThis.planted=1"').count()).toBeGreaterThan(0);
  await isText(page, 'all that is told of events');
});

test('a page of a name that somebody has made up says so, and no more', async () => {
  for (const path of [
    `/devices/${encodeURIComponent(MARKUP)}`,
    `/devices/${encodeURIComponent(TURNED)}`,
    `/${encodeURIComponent(MARKUP)}`,
    `/events?${new URLSearchParams({ device: MARKUP })}`,
  ]) {
    const page = await open(path);
    await page.locator('main h1').waitFor();
    await isText(page, path);
  }
});

/** By what the policy stops what was planted, and what the browser does not make of text. */
const WAYS = [
  'connect-src',
  'form-action',
  'function',
  'media-src',
  'script-src-attr',
  'script-src-elem',
  'style-src-attr',
];

test('nothing runs that was planted, whichever way', async () => {
  const page = await open('/');
  const answer = await page.goto('/');
  expect(answer?.headers()['content-security-policy']).toBe(POLICY);
  await page.getByRole('heading', { name: 'Fleet', level: 1 }).waitFor();
  const stopped = await page.evaluate(async (WAYS) => {
    const stopped = new Set<string>();
    document.addEventListener('securitypolicyviolation', (event) => stopped.add(event.effectiveDirective));
    const planted = document.createElement('div');
    planted.innerHTML =
      '<img src="/nowhere.png" onerror="globalThis.planted=1"><a href="javascript:globalThis.planted=1">x</a>' +
      '<iframe srcdoc="<script>parent.planted=1</script>"></iframe><form action="https://elsewhere.example/"></form>' +
      '<p style="color: red">x</p><video src="https://elsewhere.example/x.mp4"></video>';
    document.body.append(planted);
    for (const source of ['', 'https://elsewhere.example/x.js', 'data:text/javascript,planted=1']) {
      const script = document.createElement('script');
      if (source) script.src = source;
      else script.textContent = 'globalThis.planted = 1';
      document.head.append(script);
    }
    planted.querySelector('a')?.click();
    planted.querySelector('form')?.submit();
    await fetch('https://elsewhere.example/').catch(() => {});
    // What the test itself runs may make code of text; what runs by a timer may not.
    setTimeout(() => {
      try {
        new Function('globalThis.planted = 1')();
      } catch {
        stopped.add('function');
      }
    });
    // Each is told of in its own time.
    for (let count = 0; count < 200 && !WAYS.every((each) => stopped.has(each)); count += 1)
      await new Promise((resolve) => setTimeout(resolve, 50));
    return { stopped: [...stopped], planted: 'planted' in globalThis };
  }, WAYS);
  expect(stopped.planted).toBe(false);
  expect(stopped.stopped).toEqual(expect.arrayContaining(WAYS));
  expect(page.url()).toBe(`${world.http}/`);
  expect(complaints.splice(0).join()).toContain('Content Security Policy');
});
