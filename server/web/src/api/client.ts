// Requests to the operators' API.

import type { ErrorAnswer, Page } from './types.ts';

export const ROOT = '/api/v1';

/** An answer that is an error, or none at all (`status` 0). */
export class ApiError extends Error {
  override name = 'ApiError';

  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly nextStep?: string,
    /** After how many seconds it is worth trying again, if the server says so. */
    readonly retryAfter?: number,
  ) {
    super(message);
  }

  /** Nobody is logged in here, or no longer. */
  get isLoggedOut(): boolean {
    return this.status === 401 && this.code === 'not-logged-in';
  }
}

type Query = Record<string, string | number | boolean | undefined>;

/** The address of what is asked for; parameters without a value are left out. */
export function address(path: string, query: Query = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) parameters.set(name, String(value));
  }
  const asked = parameters.toString();
  return `${ROOT}${path}${asked ? `?${asked}` : ''}`;
}

/** The path of what is about one device. */
export function devicePath(name: string, rest = ''): string {
  return `/devices/${encodeURIComponent(name)}${rest}`;
}

let loggedOut: () => void = () => {};

/** Says what is to be done when an answer shows that nobody is logged in any more. */
export function onLoggedOut(callback: () => void): void {
  loggedOut = callback;
}

let refused: () => void = () => {};

/** Says what is to be done when somebody may not do what the page offers: their role may be another one now. */
export function onRefused(callback: () => void): void {
  refused = callback;
}

/** What an answer that is not 2xx says; one without our JSON is told by its status. */
export async function errorOf(response: Response): Promise<ApiError> {
  const answer = (await response.json().catch(() => null)) as Partial<ErrorAnswer> | null;
  const { code = 'unexpected', message, next_step } = answer?.error ?? {};
  const retryAfter = Number(response.headers.get('retry-after')) || undefined;
  const words = message ?? `the server answered ${response.status} without saying why`;
  const error = new ApiError(response.status, code, words, next_step, retryAfter);
  if (error.isLoggedOut) loggedOut();
  if (code === 'denied' || code === 'rights-changed') refused();
  return error;
}

/** What a failed fetch says. */
export function unreachable(): ApiError {
  return new ApiError(
    0,
    'unreachable',
    'the server can not be reached',
    'Look at your network connection, and whether the server runs.',
  );
}

async function request<T>(method: string, path: string, body?: unknown, query?: Query): Promise<T> {
  const options: RequestInit = { method, credentials: 'same-origin', cache: 'no-store' };
  if (body !== undefined) {
    options.headers = { 'content-type': 'application/json' };
    options.body = JSON.stringify(body);
  }
  let response: Response;
  try {
    response = await fetch(address(path, query), options);
  } catch {
    throw unreachable();
  }
  if (!response.ok) throw await errorOf(response);
  const text = await response.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

export function get<T>(path: string, query?: Query): Promise<T> {
  return request<T>('GET', path, undefined, query);
}

export function post<T>(path: string, body: unknown = {}): Promise<T> {
  return request<T>('POST', path, body);
}

/** Behind every id: ids are smaller than this. */
const NEWEST = Number.MAX_SAFE_INTEGER;

/** The newest entries of a list that are older than `before`, oldest first; with `next` if there are older ones. */
export function newest<T>(path: string, limit: number, query: Query = {}, before = NEWEST): Promise<Page<T>> {
  return get<Page<T>>(path, { ...query, before, limit });
}
