// Events in words.

import type { Happening } from '../api/types.ts';

/** How much an event asks to be looked at. */
export type Tone = 'good' | 'plain' | 'warn' | 'bad';

export type Topic = 'presence' | 'messages' | 'tasks' | 'video' | 'people' | 'refusals' | 'server';

export const TOPICS: Record<Topic, string> = {
  presence: 'Presence',
  messages: 'Messages',
  tasks: 'Tasks',
  video: 'Video',
  people: 'People and keys',
  refusals: 'Refusals',
  server: 'Server',
};

interface Words {
  title: string;
  tone: Tone;
  topic: Topic;
}

/** All that the server tells of. */
export const KINDS: Record<string, [title: string, topic: Topic, tone: Tone]> = {
  'server-started': ['Server started', 'server', 'good'],
  'server-stopped': ['Server stopped', 'server', 'warn'],
  'device-enrolled': ['Device enrolled', 'people', 'good'],
  'device-connected': ['Connected', 'presence', 'good'],
  'device-lost': ['Lost', 'presence', 'warn'],
  'device-disconnected': ['Disconnected', 'presence', 'plain'],
  'device-revoked': ['Device revoked', 'people', 'warn'],
  'connection-refused': ['Connection refused', 'refusals', 'warn'],
  'request-denied': ['Request denied', 'refusals', 'warn'],
  'enrolment-refused': ['Enrolment refused', 'refusals', 'warn'],
  'clone-refused': ['Clone refused', 'refusals', 'bad'],
  'message-conflict': ['Message conflict', 'messages', 'bad'],
  'message-sent': ['Message sent', 'messages', 'plain'],
  'message-passed-over': ['Message passed over', 'messages', 'warn'],
  'message-expired': ['Message expired', 'messages', 'warn'],
  'operator-enrolled': ['Operator enrolled', 'people', 'good'],
  'operator-revoked': ['Operator revoked', 'people', 'warn'],
  'operator-added': ['User added', 'people', 'good'],
  'role-changed': ['Role changed', 'people', 'warn'],
  'login-offered': ['One-time login made', 'people', 'plain'],
  'logged-in': ['Logged in', 'people', 'good'],
  'logged-out': ['Logged out', 'people', 'plain'],
  'login-refused': ['Login refused', 'refusals', 'warn'],
  'password-changed': ['Password changed', 'people', 'warn'],
  'second-factor-changed': ['Second factor changed', 'people', 'warn'],
  'access-token-created': ['Access token made', 'people', 'warn'],
  'access-token-revoked': ['Access token revoked', 'people', 'plain'],
  'certificate-changed': ['Certificate changed', 'server', 'plain'],
  'certificate-refused': ['Certificate refused', 'server', 'bad'],
  'part-failed': ['A part of the server failed', 'server', 'bad'],
  'token-created': ['Enrolment line made', 'people', 'plain'],
  'task-requested': ['Task requested', 'tasks', 'plain'],
  'task-starting': ['Task starting', 'tasks', 'plain'],
  'task-running': ['Task running', 'tasks', 'good'],
  'stop-requested': ['Stop asked for', 'tasks', 'plain'],
  'task-stopping': ['Task stopping', 'tasks', 'plain'],
  'task-done': ['Task done', 'tasks', 'good'],
  'task-failed': ['Task failed', 'tasks', 'warn'],
  'task-lost': ['Task lost', 'tasks', 'warn'],
  'task-refused': ['Task refused', 'refusals', 'warn'],
  'task-handed-over': ['Task handed over', 'tasks', 'plain'],
  'viewing-started': ['Camera looked at', 'video', 'plain'],
  'viewing-ended': ['Camera left', 'video', 'plain'],
  'viewer-thrown-out': ['Viewer thrown out', 'video', 'warn'],
  'recording-started': ['Recording started', 'video', 'good'],
  'recording-ended': ['Recording ended', 'video', 'plain'],
  'recording-read': ['Recording looked at', 'video', 'plain'],
  'recording-deleted': ['Recording deleted', 'video', 'warn'],
  'host-key-changed': ['Host key changed', 'refusals', 'bad'],
  'host-key-unknown': ['Host key unknown', 'refusals', 'warn'],
  'host-key-registered': ['Host key registered', 'people', 'plain'],
  'host-key-accepted': ['Host key accepted', 'people', 'warn'],
  'port-kept': ['Port kept behind its session', 'refusals', 'bad'],
  'store-missing': ['Database was missing', 'server', 'bad'],
  'key-missing': ['Key was missing', 'server', 'bad'],
  'key-rotated': ['Key rotated', 'people', 'warn'],
  'store-failed': ['Store failed', 'server', 'bad'],
  'disk-full': ['Disk full', 'server', 'bad'],
  'disk-recovered': ['Disk has space again', 'server', 'good'],
  'term-password-set': ['Stop password set', 'people', 'plain'],
  'term-refused': ['Stop refused', 'refusals', 'warn'],
  'term-accepted': ['Stop accepted', 'server', 'warn'],
};

/** What an event is called, what it is about, and how bad it is. One of a newer server is told by its name. */
export function wordsOf(kind: string): Words {
  const known = Object.hasOwn(KINDS, kind) ? KINDS[kind] : undefined;
  if (known) return { title: known[0], topic: known[1], tone: known[2] };
  const spaced = kind.replaceAll('-', ' ');
  const title = spaced.charAt(0).toUpperCase() + spaced.slice(1);
  return { title, topic: topicOf(kind), tone: /fail|panic|refused|denied/.test(kind) ? 'warn' : 'plain' };
}

function topicOf(kind: string): Topic {
  if (/refused|denied/.test(kind)) return 'refusals';
  if (kind.startsWith('task')) return 'tasks';
  if (kind.startsWith('message')) return 'messages';
  if (/^(operator|user|role|log|password|totp|second-factor|access|key)/.test(kind)) return 'people';
  return 'server';
}

/** All that an event says beside its columns, with the most telling first. */
export function details(event: Happening): [name: string, value: unknown][] {
  const first = ['reason', 'text', 'action', 'message'];
  const rank = (name: string) => (first.indexOf(name) + first.length + 1) % (first.length + 1);
  return Object.entries(event.detail ?? {}).sort(([a], [b]) => rank(a) - rank(b));
}
