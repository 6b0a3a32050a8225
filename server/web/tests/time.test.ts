import { expect, test } from 'vitest';
import { ago, day, instant, span, startOfDay } from '../src/words/time.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

test('spans in their largest units', () => {
  expect(span(-5)).toBe('0 s');
  expect(span(59_999)).toBe('59 s');
  expect(span(12 * MINUTE + 40 * SECOND)).toBe('12 min');
  expect(span(3 * HOUR)).toBe('3 h');
  expect(span(3 * HOUR + 5 * MINUTE)).toBe('3 h 5 min');
  expect(span(2 * DAY + 18 * HOUR)).toBe('2 d 18 h');
  expect(span(40 * DAY + 5 * HOUR)).toBe('40 d');
  expect(span(400 * DAY)).toBe('1 y 1 mo');
});

test('how long ago, and how long until', () => {
  const now = Date.UTC(2026, 10, 22, 12);
  expect(ago(now, now)).toBe('now');
  expect(ago(now + 500, now)).toBe('now');
  expect(ago(now - 12 * SECOND, now)).toBe('12 s ago');
  expect(ago(now - 119 * SECOND, now)).toBe('1 min ago');
  expect(ago(now - 26 * HOUR, now)).toBe('1 d ago');
  expect(ago(now - 90 * DAY, now)).toBe('3 mo ago');
  expect(ago(now - 800 * DAY, now)).toBe('2 y ago');
  expect(ago(now + 5 * MINUTE, now)).toBe('in 5 min');
});

test('days as they are said', () => {
  const now = new Date(2026, 10, 22, 0, 30).getTime();
  expect(day(now - MINUTE, now)).toBe('Today');
  expect(day(now - HOUR, now)).toBe('Yesterday');
  expect(day(now - 5 * DAY, now)).toContain('17');
  expect(day(now - 900 * DAY, now)).toContain('2024');
});

test('a day begins at midnight, also where it has 23 or 25 hours', () => {
  const noon = new Date(2026, 2, 29, 12).getTime();
  expect(new Date(startOfDay(noon)).getHours()).toBe(0);
  expect(new Date(startOfDay(noon, 1)).getHours()).toBe(0);
  expect(new Date(startOfDay(noon, -1)).getDate()).toBe(28);
});

test('what is no time is none', () => {
  expect(instant(undefined)).toBeUndefined();
  expect(instant('yesterday')).toBeUndefined();
  expect(instant('2026-11-22T07:30:01.009Z')).toBe(1_795_332_601_009);
});
