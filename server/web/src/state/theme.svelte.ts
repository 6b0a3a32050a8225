// Dark or light: as the system says, until somebody chooses.

export type Choice = 'system' | 'light' | 'dark';

const KEY = 'holdfast-theme';

class Theme {
  choice: Choice = $state('system');

  constructor() {
    const kept = read();
    if (kept === 'light' || kept === 'dark') this.choose(kept);
  }

  choose(choice: Choice): void {
    this.choice = choice;
    if (choice === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // A browser that keeps nothing forgets it with the page.
    }
  }
}

function read(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

export const theme = new Theme();
