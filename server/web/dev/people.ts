// Who may log in to the stand-in: `anna` (admin), `oskar` (operator), `viktor` (viewer), `tina` (admin with a second factor,
// whose code is 123456); the password of each is below. The one-time login is `#/first/welcome`.

import type { AccessToken, Login, Operator, Role } from '../src/api/types.ts';

export const PASSWORD = 'correct horse battery';
export const CODE = '123456';

export interface Person extends Operator {
  secret?: string;
}

const AGO = (hours: number) => new Date(Date.now() - hours * 3_600_000).toISOString();

export class People {
  readonly all = new Map<string, Person>();
  readonly logins: (Login & { cookie: string })[] = [];
  accessTokens: AccessToken[] = [
    { name: 'backup', since: AGO(300), expires: AGO(-1860), last_seen: AGO(3), address: '198.51.100.20' },
  ];
  readonly tokens = new Map<string, string>([['welcome', 'nora']]);
  #tries: number[] = [];

  constructor() {
    const person = (name: string, role: Role, more: Partial<Person> = {}) =>
      this.all.set(name, {
        name,
        role,
        since: AGO(900),
        password: true,
        totp: false,
        secret: PASSWORD,
        ...more,
      });
    person('anna', 'admin', { last_seen: AGO(0), address: '198.51.100.7', key: 'ab'.repeat(32) });
    person('oskar', 'operator', { last_seen: AGO(30), address: '198.51.100.9' });
    person('viktor', 'viewer', { last_seen: AGO(4), address: '2001:db8::5' });
    person('tina', 'admin', { totp: true });
    person('nora', 'viewer', { password: false });
    person('ada-before', 'operator', { revoked: AGO(80), password: false });
  }

  /** The seconds to wait, where there were too many wrong tries. */
  get wait(): number {
    this.#tries = this.#tries.filter((at) => Date.now() - at < 20_000);
    return this.#tries.length >= 5 ? 20 : 0;
  }

  login(name: string, password: string, code?: string): Person | 'wrong-login' | 'code-needed' {
    const person = this.all.get(name);
    const wrong = () => {
      this.#tries.push(Date.now());
      return 'wrong-login' as const;
    };
    if (!person || person.revoked || !person.password || person.secret !== password) return wrong();
    if (person.totp && code === undefined) return 'code-needed';
    return person.totp && code !== CODE ? wrong() : person;
  }

  enter(person: Person, address: string, browser: string): string {
    const cookie = crypto.randomUUID();
    const now = new Date().toISOString();
    this.logins.push({
      id: this.logins.length + 1,
      operator: person.name,
      since: now,
      last_seen: now,
      address,
      browser: browser.slice(0, 300),
      cookie,
    });
    return cookie;
  }

  who(cookie: string | undefined): Person | undefined {
    const login = this.logins.find((each) => each.cookie === cookie);
    const person = login && this.all.get(login.operator);
    return person?.revoked ? undefined : person;
  }

  oneTimeLogin(name: string): string {
    const token = crypto.randomUUID();
    this.tokens.set(token, name);
    return token;
  }
}
