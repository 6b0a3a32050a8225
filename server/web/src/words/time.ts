// Times and spans in words, in the viewer's zone.

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Milliseconds since 1970, or undefined for what is no time. */
export function instant(time: string | undefined): number | undefined {
  if (time === undefined) return undefined;
  const at = Date.parse(time);
  return Number.isNaN(at) ? undefined : at;
}

/** A length of time in its one or two largest units: `3 d 4 h`, `12 min`, `8 s`. */
export function span(milliseconds: number): string {
  const length = Math.max(0, milliseconds);
  if (length < MINUTE) return `${Math.floor(length / SECOND)} s`;
  if (length < HOUR) return `${Math.floor(length / MINUTE)} min`;
  if (length < DAY) return pair(length, HOUR, 'h', MINUTE, 'min');
  if (length < 365 * DAY)
    return length < 10 * DAY ? pair(length, DAY, 'd', HOUR, 'h') : `${Math.floor(length / DAY)} d`;
  return pair(length, 365 * DAY, 'y', 30 * DAY, 'mo');
}

function pair(length: number, large: number, largeName: string, small: number, smallName: string): string {
  const rest = Math.floor((length % large) / small);
  const whole = `${Math.floor(length / large)} ${largeName}`;
  return rest > 0 ? `${whole} ${rest} ${smallName}` : whole;
}

/** How long ago, or how long until: `now`, `12 s ago`, `3 h ago`, `in 5 min`. One unit is enough for it. */
export function ago(at: number, now: number): string {
  const distance = now - at;
  const length = Math.abs(distance);
  if (length < 2 * SECOND) return 'now';
  const words =
    length < MINUTE
      ? `${Math.floor(length / SECOND)} s`
      : length < HOUR
        ? `${Math.floor(length / MINUTE)} min`
        : length < DAY
          ? `${Math.floor(length / HOUR)} h`
          : length < 60 * DAY
            ? `${Math.floor(length / DAY)} d`
            : length < 730 * DAY
              ? `${Math.floor(length / (30 * DAY))} mo`
              : `${Math.floor(length / (365 * DAY))} y`;
  return distance > 0 ? `${words} ago` : `in ${words}`;
}

const exactFormat = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'long' });
const clockFormat = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const shortFormat = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const dayFormat = new Intl.DateTimeFormat(undefined, { weekday: 'short', day: 'numeric', month: 'short' });
const yearFormat = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', year: 'numeric' });

/** The exact instant: in the viewer's zone, and as it was told. */
export function exact(at: number): string {
  return `${exactFormat.format(at)}\n${new Date(at).toISOString()}`;
}

/** `14:03:22` */
export function clock(at: number): string {
  return clockFormat.format(at);
}

/** `14:03` */
export function shortClock(at: number): string {
  return shortFormat.format(at);
}

/** The day, as it is said today: `Today`, `Yesterday`, `Fri, 20 Nov`, `3 Feb 2024`. */
export function day(at: number, now: number): string {
  const distance = Math.round((startOfDay(now) - startOfDay(at)) / DAY);
  if (distance === 0) return 'Today';
  if (distance === 1) return 'Yesterday';
  return Math.abs(distance) < 300 ? dayFormat.format(at) : yearFormat.format(at);
}

/** The day and the time in one: `14:03` of today, else `Fri, 20 Nov, 14:03`. */
export function dayAndClock(at: number, now: number): string {
  return startOfDay(at) === startOfDay(now) ? shortClock(at) : `${day(at, now)}, ${shortClock(at)}`;
}

/** Midnight of the viewer's day, some days before or after it. */
export function startOfDay(at: number, days = 0): number {
  const date = new Date(at);
  date.setHours(0, 0, 0, 0);
  date.setDate(date.getDate() + days);
  return date.getTime();
}
