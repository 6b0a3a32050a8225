import { expect, test } from 'vitest';
import { Boxes } from '../src/video/boxes.ts';
import { LastSecond, Lateness } from '../src/video/figures.ts';
import { cameraPath, unitOf } from '../src/video/units.ts';

test('a picture is read from its message', () => {
  const message = new Uint8Array([1, 0, 0, 0, 0, 0, 1, 0x86, 0xa0, 0, 0, 0, 1, 0x65]);
  const unit = unitOf(message.buffer);
  expect(unit?.isKeyframe).toBe(true);
  expect(unit?.time).toBe(100_000);
  expect([...(unit?.data ?? [])]).toEqual([0, 0, 0, 1, 0x65]);
  expect(unitOf(new ArrayBuffer(9))).toBeUndefined();
  expect(unitOf(new ArrayBuffer(0))).toBeUndefined();
});

test('what a stream of MP4 says beside its pictures is read, wherever it is cut', () => {
  const box = (name: string, content: string) => {
    const bytes = new TextEncoder().encode(`....${name}${content}`);
    new DataView(bytes.buffer).setUint32(0, bytes.length);
    return [...bytes];
  };
  const status = { type: 'status', dropped: 1, device_dropped: 2, restarts: 0 };
  const end = { type: 'end', code: 'stopped', message: 'thrown out by "ann\u00e4" (free)' };
  const stream = [
    ...box('moof', 'x'),
    ...box('mdat', 'free{"type":"end"}'),
    ...box('free', JSON.stringify(status)),
    ...box('free', ''),
    ...box('free', '{"type":"end",broken}'),
    ...box('mdat', ''),
    ...box('free', JSON.stringify(end)),
  ];
  for (const size of [1, 3, 8, 50, stream.length]) {
    const boxes = new Boxes();
    const said = [];
    for (let at = 0; at < stream.length; at += size)
      said.push(...boxes.read(new Uint8Array(stream.slice(at, at + size))));
    expect(said, `in pieces of ${size}`).toEqual([status, end]);
  }
});

test('names in paths are escaped', () => {
  expect(cameraPath('porch', 'front door/x', '/units')).toBe('/devices/porch/cameras/front%20door%2Fx/units');
});

test('how late a picture is, is counted from the fastest', () => {
  const lateness = new Lateness();
  lateness.came(0, 1000);
  lateness.came(100, 1090);
  expect(lateness.of(200, 1190)).toBe(0);
  expect(lateness.of(200, 1250)).toBe(60);
  // A clock that drifts is followed: what was long ago counts no longer.
  for (let now = 2000; now < 40_000; now += 100) lateness.came(now - 985, now);
  expect(lateness.of(40_000 - 985, 40_000)).toBe(0);
  lateness.reset();
  lateness.came(0, 500_000);
  expect(lateness.of(0, 500_010)).toBe(10);
});

test('only the last second counts', () => {
  const last = new LastSecond();
  for (let at = 0; at < 3000; at += 100) last.note(at, at);
  expect(last.count(2900)).toBe(11);
  expect(last.median(2900)).toBe(2400);
  expect(last.count(10_000)).toBe(0);
  expect(last.median(10_000)).toBeUndefined();
});
