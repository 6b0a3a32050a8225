import { expect, test } from 'vitest';
import type { Device } from '../src/api/types.ts';
import { ALL, filtered, fromQuery, rowsInSight, sorted, toQuery, type Wanted } from '../src/fleet/listing.ts';

function device(name: string, more: Partial<Device> = {}): Device {
  return {
    name,
    kind: 'agent',
    online: false,
    queued: 0,
    created: '2026-01-01T00:00:00Z',
    sessions: 0,
    connected_seconds: 0,
    messages_in: 0,
    bytes_in: 0,
    messages_out: 0,
    bytes_out: 0,
    ...more,
  };
}

const FLEET = [
  device('camera-10', { online: true, address: '203.0.113.9', round_trip_ms: 40, last_seen: '2026-11-22T10:00:00Z' }),
  device('camera-9', { last_seen: '2026-11-21T10:00:00Z', version: '0.4.10' }),
  device('camera-2', {
    online: true,
    host_name: 'Gate <North>',
    round_trip_ms: 9,
    tasks: 2,
    last_seen: '2026-11-22T10:00:01Z',
  }),
  device('barometer', { kind: 'wired', gateway: 'camera-2', version: '0.4.9', last_seen: '2026-11-22T09:00:00Z' }),
  device('old', { revoked: '2026-10-01T00:00:00Z', round_trip_ms: 1 }),
];

const names = (devices: Device[]) => devices.map(({ name }) => name);
const found = (wanted: Partial<Wanted>) => names(filtered(FLEET, { ...ALL, ...wanted }));

test('a search looks into all that is known, for each of its words', () => {
  expect(found({ search: 'camera' })).toEqual(['camera-10', 'camera-9', 'camera-2', 'barometer']);
  expect(found({ search: '  NORTH camera ' })).toEqual(['camera-2']);
  expect(found({ search: '203.0.113' })).toEqual(['camera-10']);
  expect(found({ search: '.*' })).toEqual([]);
});

test('by state and kind', () => {
  expect(found({ state: 'online' })).toEqual(['camera-10', 'camera-2']);
  expect(found({ state: 'offline' })).toEqual(['camera-9', 'barometer']);
  expect(found({ state: 'revoked' })).toEqual(['old']);
  expect(found({ kind: 'wired' })).toEqual(['barometer']);
});

test('each column orders, numbers as numbers, and what is not known comes last', () => {
  expect(names(sorted(FLEET, 'name', false))).toEqual(['barometer', 'camera-2', 'camera-9', 'camera-10', 'old']);
  expect(names(sorted(FLEET, 'name', true))).toEqual(['old', 'camera-10', 'camera-9', 'camera-2', 'barometer']);
  expect(names(sorted(FLEET, 'state', false))).toEqual(['camera-2', 'camera-10', 'barometer', 'camera-9', 'old']);
  expect(names(sorted(FLEET, 'round_trip_ms', false)).slice(0, 2)).toEqual(['camera-2', 'camera-10']);
  expect(names(sorted(FLEET, 'round_trip_ms', true)).slice(0, 2)).toEqual(['camera-10', 'camera-2']);
  expect(names(sorted(FLEET, 'version', false)).slice(0, 2)).toEqual(['barometer', 'camera-9']);
  expect(names(sorted(FLEET, 'tasks', true))[0]).toBe('camera-2');
});

test('signs of life of who is online move no rows', () => {
  expect(names(sorted(FLEET, 'last_seen', true))).toEqual(['camera-2', 'camera-10', 'barometer', 'camera-9', 'old']);
});

test('the address keeps what is wanted', () => {
  const wanted: Wanted = { search: 'a b&c', state: 'online', kind: 'wired', column: 'last_seen', descending: true };
  expect(fromQuery(toQuery(wanted))).toEqual(wanted);
  expect(toQuery(ALL)).toBe('');
  expect(fromQuery('?sort=-nonsense&state=nonsense')).toEqual({ ...ALL, descending: true });
});

test('of many rows only those in sight are drawn', () => {
  expect(rowsInSight(0, 440, 44, 5000, 8)).toEqual({ from: 0, to: 18 });
  expect(rowsInSight(44_000, 440, 44, 5000, 8)).toEqual({ from: 992, to: 1018 });
  expect(rowsInSight(1e9, 440, 44, 20, 8)).toEqual({ from: 20, to: 20 });
  expect(rowsInSight(0, 440, 44, 0, 8)).toEqual({ from: 0, to: 0 });
});

test('five thousand devices are put in order within a frame', () => {
  const many = Array.from({ length: 5000 }, (_, index) =>
    device(`camera-${(index * 7919) % 5000}`, {
      online: index % 3 > 0,
      address: `10.0.${index % 256}.${index % 99}`,
    }),
  );
  const inOrder = sorted(filtered(many, { ...ALL, search: 'camera' }), 'name', false);
  const began = performance.now();
  for (let round = 0; round < 10; round += 1) sorted(filtered(inOrder, { ...ALL, search: 'camera' }), 'name', false);
  // A bound for a busy machine: at rest it is some milliseconds.
  expect((performance.now() - began) / 10).toBeLessThan(100);
});
