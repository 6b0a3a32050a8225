import { expect, test } from 'vitest';
import type { Session } from '../src/api/types.ts';
import { bar, bars, presences, summary } from '../src/fleet/timeline.ts';
import { startOfDay } from '../src/words/time.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const NOW = new Date(2026, 10, 22, 12).getTime();

let id = 0;
/** From so many hours ago to so many hours ago, or until now. */
function session(from: number, to?: number, reason = 'lost'): Session {
  const iso = (hours: number) => new Date(NOW - hours * HOUR).toISOString();
  const base: Session = {
    id: ++id,
    device: 'a',
    address: '',
    started: iso(from),
    last_seen: iso(to ?? 0),
    messages_in: 0,
    bytes_in: 0,
    messages_out: 0,
    bytes_out: 0,
  };
  return to === undefined ? base : { ...base, ended: iso(to), reason };
}

test('sessions without a gap between them are one presence', () => {
  const joined = presences([session(5, 4), session(10, 8, 'closed'), session(4), session(8, 7.5, 'replaced')], NOW);
  expect(joined).toEqual([
    { from: NOW - 10 * HOUR, to: NOW - 7.5 * HOUR, open: false, sessions: 2, reason: 'replaced' },
    { from: NOW - 5 * HOUR, to: NOW, open: true, sessions: 2, reason: 'lost' },
  ]);
});

test('a bar shows what falls into it, cut at its ends', () => {
  const all = presences([session(30, 20), session(15, 14), session(2)], NOW);
  const { segments, share } = bar(all, NOW - DAY, NOW, NOW, 0);
  expect(segments.map(({ left, width }) => [Math.round(left * 10) / 10, Math.round(width * 10) / 10])).toEqual([
    [0, 16.7],
    [37.5, 4.2],
    [91.7, 8.3],
  ]);
  expect(share).toBeCloseTo((4 + 1 + 2) / 24);
});

test('the shortest presence is still seen, within the bar', () => {
  const all = presences([session(0.0001, 0)], NOW);
  const [segment] = bar(all, NOW - DAY, NOW, NOW, 0).segments;
  expect(segment?.width).toBe(0.25);
  expect(segment && segment.left + segment.width).toBeLessThanOrEqual(100);
});

test('only the time counts in which the device was known, and that has been', () => {
  const all = presences([session(6)], NOW);
  const today = bar(all, startOfDay(NOW), startOfDay(NOW, 1), NOW, NOW - 8 * HOUR);
  expect(today.share).toBeCloseTo(6 / 8);
  expect(bar(all, NOW - 3 * DAY, NOW - 2 * DAY, NOW, NOW - 8 * HOUR).share).toBeUndefined();
});

test('days have a bar each, the newest first, and one day is the last 24 hours', () => {
  const week = bars([session(100)], 7, NOW, 0);
  expect(week).toHaveLength(7);
  expect(week[0]?.from).toBe(startOfDay(NOW));
  expect(week[6]?.from).toBe(startOfDay(NOW, -6));
  const [last] = bars([session(100)], 1, NOW, 0);
  expect([last?.from, last?.to]).toEqual([NOW - DAY, NOW]);
});

test('in figures: how much, how often away, how long at most', () => {
  const found = summary([session(30, 20), session(15, 14), session(2)], NOW - DAY, NOW, 0);
  expect(found.gaps).toBe(2);
  expect(found.longestGap).toBe(12 * HOUR);
  expect(found.share).toBeCloseTo(7 / 24);
  expect(summary([session(30, 1)], NOW - DAY, NOW, 0)).toMatchObject({ gaps: 1, longestGap: HOUR });
  expect(summary([], NOW - DAY, NOW, 0)).toMatchObject({ gaps: 0, share: 0 });
});
