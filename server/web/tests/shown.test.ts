import { expect, test } from 'vitest';
import { hex, shown } from '../src/words/shown.ts';
import { HOSTILE_TEXTS } from '../dev/hostile.ts';

test('what is honest is shown as it is', () => {
  for (const text of ['camera-1', 'temperature 21.4 °C', 'Grüße, 東京', 'سيارة', 'עברית', '👩‍🚀🏳️‍🌈 ✅', '<b>bold</b>']) {
    expect(shown(text)).toBe(text);
  }
});

test('controls, marks of direction and invisible characters are made visible', () => {
  expect(shown('a\u001b[31mb')).toBe('a⟨ESC⟩[31mb');
  expect(shown('gate\u202Etxt.exe')).toBe('gate⟨U+202E⟩txt.exe');
  expect(shown('\u0000\u007f\u0085')).toBe('⟨NUL⟩⟨DEL⟩⟨U+0085⟩');
  expect(shown('a\u200Bb\uFEFFc\u2066d\u00ade')).toBe('a⟨U+200B⟩b⟨U+FEFF⟩c⟨U+2066⟩d⟨U+00AD⟩e');
  expect(shown('\u{E0041}x\u2028y')).toBe('⟨U+E0041⟩x⟨U+2028⟩y');
  expect(shown('a\u200Db')).toBe('a⟨U+200D⟩b');
  expect(shown(`a${'\u0301'.repeat(6)}`)).toBe(`a${'\u0301'.repeat(4)}⟨U+0301⟩⟨U+0301⟩`);
  expect(shown('half \ud800 and \udc00')).toBe('half ⟨U+D800⟩ and ⟨U+DC00⟩');
});

test('nothing of what hides is left in hostile texts', () => {
  for (const text of HOSTILE_TEXTS) {
    expect(shown(text)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/);
  }
});

test('lines and tabs stay where they belong', () => {
  expect(shown('a\r\n\tb\n')).toBe('a⟨CR⟩⟨LF⟩⟨TAB⟩b⟨LF⟩');
  expect(shown('a\r\n\tb\r', { lines: true })).toBe('a\n\tb⟨CR⟩');
});

test('long texts are cut, and say so', () => {
  expect(shown('abcdef', { limit: 3 })).toBe('abc… (3 more)');
  // Not within a character.
  expect(shown('ab👍cd', { limit: 3 })).toBe('ab… (4 more)');
});

test('what is no text is told as JSON', () => {
  expect(shown(undefined)).toBe('');
  expect(shown(42)).toBe('42');
  expect(shown({ a: ['\u202e'] })).toBe('{"a":["⟨U+202E⟩"]}');
});

test('bytes are told as hexadecimal', () => {
  expect(hex('/wA=')).toBe('ff 00');
  expect(hex(btoa('x'.repeat(300)), 2)).toBe('78 78 … (298 more)');
  expect(hex('no base64!')).toBe('no base64!');
});
