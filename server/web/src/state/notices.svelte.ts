// Short words about what has just been done, which go away by themselves.

export interface Notice {
  id: number;
  text: string;
  tone: 'good' | 'bad';
}

const SHOWN_FOR = 6000;

class Notices {
  all: Notice[] = $state.raw([]);
  #last = 0;

  say(text: string, tone: Notice['tone'] = 'good'): void {
    const id = ++this.#last;
    this.all = [...this.all, { id, text, tone }];
    setTimeout(() => this.remove(id), SHOWN_FOR);
  }

  remove(id: number): void {
    this.all = this.all.filter((notice) => notice.id !== id);
  }
}

export const notices = new Notices();
