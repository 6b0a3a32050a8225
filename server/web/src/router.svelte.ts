// Which page is shown: the address says it, by the History API.

export const TABS = ['overview', 'messages', 'events', 'tasks', 'video', 'ssh'] as const;
export type Tab = (typeof TABS)[number];

export type Route =
  | { page: 'fleet' | 'events' | 'server' | 'enrol' | 'users' | 'me' | 'login' | 'nowhere' }
  | { page: 'device'; name: string; tab: Tab }
  | { page: 'first'; token: string };

const PAGES = ['events', 'server', 'enrol', 'users', 'me', 'login'] as const;

/** The page of an address. A one-time login stands behind the `#`, so that no server logs it. */
export function routeOf(path: string, hash = ''): Route {
  const first = /^#\/first\/([^/]+)$/.exec(hash);
  if (first?.[1]) return { page: 'first', token: decoded(first[1]) };
  const [page = '', name = '', tab = 'overview', ...rest] = path.split('/').slice(1);
  if (page === '' && name === '') return { page: 'fleet' };
  if (page === 'devices' && name !== '' && rest.length === 0) {
    const known = TABS.find((candidate) => candidate === tab);
    return known ? { page: 'device', name: decoded(name), tab: known } : { page: 'nowhere' };
  }
  const known = PAGES.find((candidate) => candidate === page);
  return known && name === '' ? { page: known } : { page: 'nowhere' };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function deviceLink(name: string, tab: Tab = 'overview'): string {
  return `/devices/${encodeURIComponent(name)}${tab === 'overview' ? '' : `/${tab}`}`;
}

class Router {
  route: Route = $state.raw(routeOf(location.pathname, location.hash));
  /** What stands behind the `?`. */
  query = $state(location.search);

  start(): void {
    window.addEventListener('popstate', this.#read);
    window.addEventListener('hashchange', this.#read);
    document.addEventListener('click', this.#click);
  }

  go(address: string): void {
    if (address === location.pathname + location.search + location.hash) return;
    history.pushState(null, '', address);
    this.#read();
  }

  /** Another page in the place of this one: back does not lead to it. */
  replace(address: string): void {
    history.replaceState(null, '', address);
    this.#read();
  }

  /** Keeps what the page shows in its address, for a link or a reload. */
  remember(query: string): void {
    const search = query ? `?${query}` : '';
    if (search !== location.search) history.replaceState(null, '', location.pathname + search);
    this.query = search;
  }

  #read = (): void => {
    this.route = routeOf(location.pathname, location.hash);
    this.query = location.search;
  };

  /** Links of ours change the page without loading it anew; with a modifier, or for elsewhere, the browser does it. */
  #click = (event: MouseEvent): void => {
    if (
      event.defaultPrevented ||
      event.button !== 0 ||
      event.metaKey ||
      event.ctrlKey ||
      event.shiftKey ||
      event.altKey
    )
      return;
    const link = event.target instanceof Element ? event.target.closest('a') : null;
    if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return;
    if (link.getAttribute('href')?.startsWith('#')) return;
    event.preventDefault();
    this.go(link.pathname + link.search + link.hash);
  };
}

export const router = new Router();
