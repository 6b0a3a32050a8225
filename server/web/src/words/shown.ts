// How text is shown that others have made: devices, their users, whoever names things. It may be built to deceive.

/** Longer texts are cut: nobody reads them, and they slow the page down. */
const LONGEST = 20_000;

interface Options {
  /** Keeps line breaks and tabs: for message bodies and output. */
  lines?: boolean;
  /** So many characters at most. */
  limit?: number;
}

/** The text with all that is invisible or changes the order of reading made visible. It is text still, never markup. */
export function shown(text: unknown, { lines = false, limit = LONGEST }: Options = {}): string {
  const whole = typeof text === 'string' ? text : words(text);
  const cut = whole.length > limit ? cutAt(whole, limit) : whole;
  const broken = lines ? cut.replaceAll('\r\n', '\n') : cut;
  const visible = broken.replace(SUSPECT, (found) =>
    lines && (found === '\n' || found === '\t') ? found : visibleForm(found),
  );
  const left = whole.length - cut.length;
  return left > 0 ? `${visible}… (${left.toLocaleString('en')} more)` : visible;
}

/**
 * Controls, marks of direction, invisible spaces and joiners, line and paragraph separators, interlinear marks,
 * tag characters, private marks, halves of characters, and heaps of marks. Emoji keep the joiner (U+200D) and the variation selector
 * that they are made of.
 */
const SUSPECT = new RegExp(
  [
    '[\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180e\\u200b\\u200c\\u200e\\u200f]',
    '(?<!\\p{Extended_Pictographic}\\ufe0f?)\\u200d',
    '[\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\uffa0\\ufff0-\\ufffb]',
    '[\\u{e0000}-\\u{e0fff}]',
    '\\p{Surrogate}',
    // Marks that are heaped on one letter reach over the lines beside it; no writing has more than a few.
    '(?<=\\p{M}{4})\\p{M}',
  ].join('|'),
  'gu',
);

/** Those that people know by a name. */
const NAMES: Record<number, string> = {
  0: 'NUL',
  7: 'BEL',
  8: 'BS',
  9: 'TAB',
  10: 'LF',
  13: 'CR',
  27: 'ESC',
  127: 'DEL',
};

function visibleForm(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return `⟨${NAMES[code] ?? `U+${code.toString(16).toUpperCase().padStart(4, '0')}`}⟩`;
}

/** The beginning of a text, not cut within a character. */
function cutAt(text: string, limit: number): string {
  const code = text.charCodeAt(limit - 1);
  return text.slice(0, code >= 0xd800 && code < 0xdc00 ? limit - 1 : limit);
}

/** A value that is no text, as text. */
function words(value: unknown): string {
  if (value === undefined || value === null) return '';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** Bytes that are no text, as people read them: hexadecimal, the first of them. */
export function hex(base64: string, limit = 256): string {
  let bytes: string;
  try {
    bytes = atob(base64);
  } catch {
    return shown(base64);
  }
  const first = Array.from(bytes.slice(0, limit), (byte) => byte.charCodeAt(0).toString(16).padStart(2, '0'));
  const left = bytes.length - first.length;
  return first.join(' ') + (left > 0 ? ` … (${left.toLocaleString('en')} more)` : '');
}
