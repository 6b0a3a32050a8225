// What a stream of MP4 says beside its pictures: in boxes of the name `free`, which players pass over.

import { messageOf, type Message } from './units.ts';

/** The length and the name of a box, in bytes. */
const HEAD = 8;
const FREE = 0x66726565;
/** More is no message of the server's. */
const LONGEST = 64 * 1024;

export class Boxes {
  /** The head of the box that comes, as far as it has. */
  #head = new Uint8Array();
  /** How much of its content has yet to come. */
  #left = 0;
  #isFree = false;
  #words = new Uint8Array();

  /** Takes what comes next, cut anywhere; gives what is said in it. */
  read(piece: Uint8Array): Message[] {
    const said: Message[] = [];
    for (let at = 0; at < piece.length;) {
      if (this.#left === 0) {
        const head = piece.subarray(at, at + HEAD - this.#head.length);
        at += head.length;
        this.#begin(joined(this.#head, head));
      } else {
        const content = piece.subarray(at, at + this.#left);
        at += content.length;
        this.#left -= content.length;
        if (this.#isFree) this.#words = joined(this.#words, content);
        const message = this.#left === 0 && this.#isFree ? messageOf(this.#words) : undefined;
        if (message) said.push(message);
      }
    }
    return said;
  }

  #begin(head: Uint8Array<ArrayBuffer>): void {
    this.#head = head;
    if (head.length < HEAD) return;
    const view = new DataView(head.buffer);
    this.#left = Math.max(0, view.getUint32(0) - HEAD);
    this.#isFree = view.getUint32(4) === FREE && this.#left <= LONGEST;
    this.#head = this.#words = new Uint8Array();
  }
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}
