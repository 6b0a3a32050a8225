// Server-sent events out of a stream of text, as the HTML standard describes them.

export interface ServerEvent {
  /** What kind of event it is: `message` if the server did not say. */
  event: string;
  data: string;
  /** The last id that came, on this event or before. */
  id: string;
}

/** More than any event of ours has: a stream with longer lines is not one of events. */
export const LONGEST_EVENT = 8 * 1024 * 1024;

export class EventParser {
  #rest = '';
  #event = '';
  #data: string[] = [];
  #id: string;
  /** Comments that came: servers send them to show that the connection lives. */
  comments = 0;

  constructor(lastId = '') {
    this.#id = lastId;
  }

  get lastId(): string {
    return this.#id;
  }

  /** Takes a part of the stream, cut anywhere, and returns the events that it completes. */
  feed(text: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    const waiting = this.#rest + text;
    // A `\r` at the very end may be half of `\r\n`: it waits for what follows.
    const held = waiting.endsWith('\r') ? '\r' : '';
    const lines = waiting.slice(0, waiting.length - held.length).split(/\r\n|\n|\r/);
    this.#rest = (lines.pop() ?? '') + held;
    for (const line of lines) {
      const event = this.#line(line);
      if (event) events.push(event);
    }
    if (this.#rest.length > LONGEST_EVENT) throw new Error('an event longer than any that the server sends');
    return events;
  }

  #line(line: string): ServerEvent | undefined {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    if (colon === 0) {
      this.comments += 1;
      return undefined;
    }
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') this.#data.push(value);
    else if (field === 'event') this.#event = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
    return undefined;
  }

  #dispatch(): ServerEvent | undefined {
    const event = { event: this.#event || 'message', data: this.#data.join('\n'), id: this.#id };
    const isEmpty = this.#data.length === 0;
    this.#event = '';
    this.#data = [];
    return isEmpty ? undefined : event;
  }
}
