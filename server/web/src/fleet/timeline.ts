// When a device was there: its sessions, laid out on days.

import type { Session } from '../api/types.ts';
import { instant, startOfDay } from '../words/time.ts';

/** A time without gaps that a device was connected. */
export interface Presence {
  from: number;
  to: number;
  /** It lasts. */
  open: boolean;
  /** The sessions in it, by their ids: a device that comes back at once has several. */
  sessions: number;
  /** Why the last of them ended. */
  reason?: string;
}

/** A part of a bar, in percent of its length. */
export interface Segment {
  left: number;
  width: number;
  presence: Presence;
}

export interface Bar {
  from: number;
  to: number;
  segments: Segment[];
  /** How much of the bar's past the device was there, 0 to 1; undefined if the bar is before the device was known. */
  share: number | undefined;
}

/** A gap as short as this is one line in the picture, not two. */
const SHORTEST_GAP = 1000;

/** Joins sessions that follow each other at once, oldest first. */
export function presences(sessions: Session[], now: number): Presence[] {
  const joined: Presence[] = [];
  const inOrder = sessions
    .map((session) => ({ session, from: instant(session.started) ?? now, to: instant(session.ended) ?? now }))
    .sort((a, b) => a.from - b.from);
  for (const { session, from, to } of inOrder) {
    const last = joined.at(-1);
    const open = session.ended === undefined;
    if (last && from - last.to <= SHORTEST_GAP) {
      last.to = Math.max(last.to, to);
      last.open ||= open;
      last.sessions += 1;
      if (session.reason !== undefined) last.reason = session.reason;
    } else {
      joined.push({
        from,
        to: Math.max(from, to),
        open,
        sessions: 1,
        ...(session.reason === undefined ? {} : { reason: session.reason }),
      });
    }
  }
  return joined;
}

/** One bar from `from` to `to`: what of the presences falls into it. A short one is drawn no narrower than `least` percent. */
export function bar(all: Presence[], from: number, to: number, now: number, known: number, least = 0.25): Bar {
  const length = to - from;
  const segments: Segment[] = [];
  let covered = 0;
  for (const presence of all) {
    const start = Math.max(from, presence.from);
    const end = Math.min(to, presence.to);
    if (end < start || start >= to || (end === start && presence.from !== presence.to)) continue;
    covered += end - start;
    const width = Math.max(least, ((end - start) / length) * 100);
    const left = Math.min(100 - width, ((start - from) / length) * 100);
    segments.push({ left, width, presence });
  }
  const past = Math.min(to, now) - Math.max(from, known);
  return { from, to, segments, share: past > 0 ? Math.min(1, covered / past) : undefined };
}

/** A bar for each of the last days, the newest first; for one day the last 24 hours as they are. */
export function bars(sessions: Session[], days: number, now: number, known: number): Bar[] {
  const all = presences(sessions, now);
  if (days === 1) return [bar(all, now - 86_400_000, now, now, known)];
  return Array.from({ length: days }, (_, back) =>
    bar(all, startOfDay(now, -back), startOfDay(now, 1 - back), now, known),
  );
}

export interface Summary {
  /** How much of the time, 0 to 1. */
  share: number | undefined;
  gaps: number;
  longestGap: number;
}

/** What a picture of presences says, in figures; gaps before the first presence do not count as such. */
export function summary(sessions: Session[], from: number, now: number, known: number): Summary {
  const all = presences(sessions, now).filter((presence) => presence.to > from);
  const { share } = bar(all, from, now, now, known);
  let gaps = 0;
  let longestGap = 0;
  all.forEach((presence, index) => {
    const end = all[index + 1]?.from ?? now;
    if (presence.open || end <= presence.to) return;
    gaps += 1;
    longestGap = Math.max(longestGap, end - presence.to);
  });
  return { share, gaps, longestGap };
}
