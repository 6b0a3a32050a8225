import { expect, test } from 'vitest';
import { EventParser, LONGEST_EVENT, type ServerEvent } from '../src/api/parser.ts';

const STREAM =
  ': hello\n\nid: 7\nevent: device\ndata: {"name":"a"}\n\ndata: one\ndata: two\n\nretry: 10\nid: 8\ndata:no space\r\n\r\ndata\n\nid\ndata: last\r\r';

const EVENTS: ServerEvent[] = [
  { event: 'device', data: '{"name":"a"}', id: '7' },
  { event: 'message', data: 'one\ntwo', id: '7' },
  { event: 'message', data: 'no space', id: '8' },
  { event: 'message', data: '', id: '8' },
  { event: 'message', data: 'last', id: '' },
];

test('events are read as the standard says', () => {
  const parser = new EventParser();
  // The last `\r` might have been the first half of a line's end.
  expect([...parser.feed(STREAM), ...parser.feed(':\n')]).toEqual(EVENTS);
  expect(parser.comments).toBe(2);
});

test('it makes no difference where the stream is cut', () => {
  for (let first = 0; first <= STREAM.length; first += 1) {
    for (const second of [first, Math.min(first + 1, STREAM.length), STREAM.length]) {
      const parser = new EventParser();
      const parts = [STREAM.slice(0, first), STREAM.slice(first, second), STREAM.slice(second), ':\n'];
      expect(parts.flatMap((part) => parser.feed(part))).toEqual(EVENTS);
    }
  }
});

test('an id lasts until another one comes, and is known from before', () => {
  const parser = new EventParser('41');
  expect(parser.feed('data: x\n\n')).toEqual([{ event: 'message', data: 'x', id: '41' }]);
  parser.feed('id: 42\n\n');
  expect(parser.lastId).toBe('42');
  parser.feed('id: 4\u00003\n\n');
  expect(parser.lastId).toBe('42');
});

test('a line without end is refused', () => {
  const parser = new EventParser();
  expect(() => parser.feed('x'.repeat(LONGEST_EVENT + 1))).toThrow('longer');
});
