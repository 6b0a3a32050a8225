// Which events a list shows.

import type { Happening } from '../api/types.ts';
import { wordsOf, type Topic } from '../words/happening.ts';

const searched = new WeakMap<Happening, string>();

function haystack(event: Happening): string {
  let found = searched.get(event);
  if (found === undefined) {
    const { kind, device, address, who, detail } = event;
    found = [kind, wordsOf(kind).title, device, address, who, JSON.stringify(detail)]
      .filter(Boolean)
      .join('\n')
      .toLowerCase();
    searched.set(event, found);
  }
  return found;
}

/** Whether an event is about the topic, and each word of the search stands in it. */
export function matches(event: Happening, search: string, topic: Topic | 'all'): boolean {
  if (topic !== 'all' && wordsOf(event.kind).topic !== topic) return false;
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return words.every((word) => haystack(event).includes(word));
}
