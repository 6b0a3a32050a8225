// Figures as people read them.

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** `0 B`, `8.4 kB`, `312 MB` */
export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit > 0 && value < 99.95 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

/** `940 kbit/s`, `1.2 Mbit/s` */
export function bitrate(value: number): string {
  if (value < 999_500) return `${Math.round(value / 1000)} kbit/s`;
  return `${(value / 1_000_000).toFixed(1)} Mbit/s`;
}

/** A number with its thousands apart. */
export function count(value: number): string {
  return value.toLocaleString('en', { maximumFractionDigits: 1 });
}

/** `0.4 ms`, `38 ms`, `1.2 s` */
export function milliseconds(value: number): string {
  if (value >= 10_000) return `${Math.round(value / 1000)} s`;
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

const ENDINGS: [string, (value: number) => string][] = [
  ['bytes_per_second', (value) => `${bytes(value)}/s`],
  ['bytes', bytes],
  ['ms', milliseconds],
  ['seconds', (value) => seconds(value)],
  ['percent', (value) => `${value.toFixed(value < 10 ? 1 : 0)} %`],
  ['celsius', (value) => `${value.toFixed(1)} °C`],
  ['per_second', (value) => `${count(value)} /s`],
  ['bits', (value) => `0x${Math.round(value).toString(16)}`],
];

function seconds(value: number): string {
  if (value < 1) return milliseconds(value * 1000);
  if (value < 60) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min`;
  if (value < 86_400) return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
  return `${Math.floor(value / 86_400)} d ${Math.floor((value % 86_400) / 3600)} h`;
}

/** What a figure is and how much, by the unit that its name ends with: `disk-free-bytes` is `disk free` in bytes. */
export function figure(name: string, value: unknown): { label: string; value: string } {
  const plain = name.replaceAll('-', '_');
  const found = ENDINGS.find(([ending]) => plain.endsWith(`_${ending}`));
  const label = (found ? plain.slice(0, -found[0].length - 1) : plain).replaceAll('_', ' ');
  if (typeof value !== 'number') return { label, value: typeof value === 'string' ? value : JSON.stringify(value) };
  return { label, value: found ? found[1](value) : count(value) };
}

/** `1 device`, `3 devices` */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}
