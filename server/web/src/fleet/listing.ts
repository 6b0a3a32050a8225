// Which devices a list shows, and in which order.

import type { Device } from '../api/types.ts';
import { instant } from '../words/time.ts';

export type State = 'online' | 'offline' | 'revoked';
export type Column = 'name' | 'state' | 'last_seen' | 'address' | 'version' | 'round_trip_ms' | 'tasks' | 'queued';

/** The columns, in their order, and what they are called. */
export const COLUMN_NAMES: Record<Column, string> = {
  name: 'Device',
  state: 'State',
  last_seen: 'Last seen',
  address: 'Address',
  version: 'Version',
  round_trip_ms: 'Round trip',
  tasks: 'Tasks',
  queued: 'Waiting',
};

export interface Wanted {
  search: string;
  state: State | 'all';
  kind: string;
  column: Column;
  descending: boolean;
}

export const ALL: Wanted = { search: '', state: 'all', kind: 'all', column: 'name', descending: false };

export function stateOf(device: Device): State {
  if (device.revoked) return 'revoked';
  return device.online ? 'online' : 'offline';
}

/** What a search looks into, kept for each answer of the server: a device that has not changed is the same object. */
const searched = new WeakMap<Device, string>();

function haystack(device: Device): string {
  let found = searched.get(device);
  if (found === undefined) {
    const { name, host_name, address, version, gateway, kind } = device;
    found = [name, host_name, address, version, gateway, kind].filter(Boolean).join('\n').toLowerCase();
    searched.set(device, found);
  }
  return found;
}

/** The devices that are wanted. Each word of the search must stand somewhere in what is known of the device. */
export function filtered(devices: Iterable<Device>, wanted: Wanted): Device[] {
  const words = wanted.search.toLowerCase().split(/\s+/).filter(Boolean);
  const found: Device[] = [];
  for (const device of devices) {
    if (wanted.state !== 'all' && stateOf(device) !== wanted.state) continue;
    if (wanted.kind !== 'all' && device.kind !== wanted.kind) continue;
    if (words.length > 0) {
      const text = haystack(device);
      if (!words.every((word) => text.includes(word))) continue;
    }
    found.push(device);
  }
  return found;
}

const natural = new Intl.Collator('en', { numeric: true });

/** Names as people order them: `camera-9` comes before `camera-10`. */
export function byName(a: Device, b: Device): number {
  return natural.compare(a.name, b.name);
}

/** More texts than any fleet has at a time: addresses that were left long ago are forgotten. */
const MOST_TEXTS = 50_000;

/** Where texts stand among each other. To compare them is slow, so it is done once for each new one. */
class Alphabet {
  #places = new Map<string, number>();

  learn(texts: string[]): void {
    if (texts.every((text) => this.#places.has(text))) return;
    const known = this.#places.size > MOST_TEXTS ? [] : this.#places.keys();
    const inOrder = [...new Set([...known, ...texts])].sort(natural.compare);
    this.#places = new Map(inOrder.map((text, place) => [text, place]));
  }

  place(text: string): number {
    return this.#places.get(text) ?? 0;
  }
}

const names = new Alphabet();
const others = new Alphabet();

const STATES: Record<State, number> = { online: 0, offline: 1, revoked: 2 };

/** What a device is ordered by; undefined: not known, which comes last in both directions. */
function key(device: Device, column: Column): number | undefined {
  switch (column) {
    case 'name':
      return names.place(device.name);
    case 'state':
      return STATES[stateOf(device)];
    case 'last_seen':
      // Whoever is online is seen now: else rows would change places with each sign of life.
      return device.online ? Number.MAX_VALUE : instant(device.last_seen);
    case 'address':
      return device.address === undefined ? undefined : others.place(device.address);
    case 'version':
      return device.version === undefined ? undefined : others.place(device.version);
    case 'round_trip_ms':
      return device.online ? device.round_trip_ms : undefined;
    case 'tasks':
      return device.tasks ?? 0;
    case 'queued':
      return device.queued;
  }
}

/** The devices in order; those that are equal go by name. */
export function sorted(devices: Device[], column: Column, descending: boolean): Device[] {
  names.learn(devices.map(({ name }) => name));
  if (column === 'address' || column === 'version') {
    others.learn(devices.map((device) => device[column]).filter((text) => text !== undefined));
  }
  const direction = descending ? -1 : 1;
  return devices
    .map((device) => ({ device, key: key(device, column), name: names.place(device.name) }))
    .sort((a, b) => {
      if (a.key === b.key) return a.name - b.name;
      if (a.key === undefined) return 1;
      if (b.key === undefined) return -1;
      return (a.key - b.key) * direction;
    })
    .map(({ device }) => device);
}

/** What stands in the page's address, and what it leaves out. */
export function toQuery(wanted: Wanted): string {
  const query = new URLSearchParams();
  if (wanted.search) query.set('q', wanted.search);
  if (wanted.state !== 'all') query.set('state', wanted.state);
  if (wanted.kind !== 'all') query.set('kind', wanted.kind);
  if (wanted.column !== 'name' || wanted.descending) query.set('sort', (wanted.descending ? '-' : '') + wanted.column);
  return query.toString();
}

export function fromQuery(search: string): Wanted {
  const query = new URLSearchParams(search);
  const sort = query.get('sort') ?? 'name';
  const column = (Object.keys(COLUMN_NAMES) as Column[]).find((name) => name === sort.replace(/^-/, '')) ?? 'name';
  const state = query.get('state');
  return {
    search: query.get('q') ?? '',
    state: state === 'online' || state === 'offline' || state === 'revoked' ? state : 'all',
    kind: query.get('kind') ?? 'all',
    column,
    descending: sort.startsWith('-'),
  };
}

/** Which rows of a long list are drawn: those in sight, and some before and behind. */
export function rowsInSight(
  top: number,
  height: number,
  rowHeight: number,
  count: number,
  spare = 8,
): { from: number; to: number } {
  const first = Math.floor(top / rowHeight) - spare;
  const last = Math.ceil((top + height) / rowHeight) + spare;
  const from = Math.max(0, Math.min(first, count));
  return { from, to: Math.max(from, Math.min(last, count)) };
}
