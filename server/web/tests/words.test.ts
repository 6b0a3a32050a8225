import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { Happening } from '../src/api/types.ts';
import { matches } from '../src/fleet/events.ts';
import { browserName } from '../src/words/browser.ts';
import { bytes, figure, milliseconds, plural } from '../src/words/figures.ts';
import { details, KINDS, wordsOf } from '../src/words/happening.ts';

test('figures as people read them', () => {
  expect([0, 999, 1000, 8420, 99_960, 312_000_000, 5e15].map(bytes)).toEqual([
    '0 B',
    '999 B',
    '1.0 kB',
    '8.4 kB',
    '100 kB',
    '312 MB',
    '5.0 PB',
  ]);
  expect([0.42, 9.96, 38.2, 1234, 61_000].map(milliseconds)).toEqual(['0.4 ms', '10.0 ms', '38 ms', '1.2 s', '61 s']);
  expect([plural(1, 'device'), plural(5000, 'device')]).toEqual(['1 device', '5,000 devices']);
});

test('a figure has its unit in its name', () => {
  expect(figure('disk-free-bytes', 13_200_000_000)).toEqual({ label: 'disk free', value: '13.2 GB' });
  expect(figure('relayed_bytes_per_second', 133_771.9)).toEqual({ label: 'relayed', value: '134 kB/s' });
  expect(figure('uptime-seconds', 90_061)).toEqual({ label: 'uptime', value: '1 d 1 h' });
  expect(figure('throttled-bits', 327_685)).toEqual({ label: 'throttled', value: '0x50005' });
  expect(figure('queue', 1234.56)).toEqual({ label: 'queue', value: '1,234.6' });
  expect(figure('name', '<b>')).toEqual({ label: 'name', value: '<b>' });
});

test('there are words for every event of the server', () => {
  const server = readFileSync(new URL('../../src/event.rs', import.meta.url), 'utf8');
  const kinds = [...server.matchAll(/^ {4}[A-Z]\w+ = "([a-z-]+)",$/gm)].map(([, kind]) => kind);
  expect(Object.keys(KINDS).sort()).toEqual(kinds.sort());
});

test('events of newer servers are told by their names', () => {
  expect(wordsOf('device-lost')).toEqual({ title: 'Lost', topic: 'presence', tone: 'warn' });
  expect(wordsOf('part-panicked')).toEqual({ title: 'Part panicked', topic: 'server', tone: 'warn' });
  expect(wordsOf('login-refused')).toMatchObject({ topic: 'refusals', tone: 'warn' });
  expect(wordsOf('constructor').title).toBe('Constructor');
});

test('events are found by words and topic', () => {
  const event: Happening = {
    id: 1,
    at: '',
    kind: 'task-failed',
    device: 'camera-1',
    who: 'anna',
    detail: { task: 7, reason: 'no SSH server', shown: 'x' },
  };
  expect(matches(event, 'anna SSH', 'all')).toBe(true);
  expect(matches(event, 'anna', 'presence')).toBe(false);
  expect(matches(event, 'bernd', 'tasks')).toBe(false);
  expect(details(event).map(([name]) => name)).toEqual(['reason', 'task', 'shown']);
});

test('browsers by the names that people know', () => {
  expect(
    browserName('Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Safari/537.36'),
  ).toBe('Chrome on Linux');
  expect(
    browserName(
      'Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 Version/19.0 Safari/604.1',
    ),
  ).toBe('Safari on iOS');
  expect(browserName('curl/8.9')).toBe('curl/8.9');
  expect(browserName(undefined)).toBe('A browser');
});
