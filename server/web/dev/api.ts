// The stand-in's side of the API: what the console asks, answered from the simulated world.

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Device, Happening, Message, Operator, Role } from '../src/api/types.ts';
import { CODE, type Person, People } from './people.ts';
import { follow, followList } from './streams.ts';
import type { World } from './world.ts';

class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly nextStep?: string,
    readonly retryAfter?: number,
  ) {
    super(message);
  }
}

interface Asked {
  request: IncomingMessage;
  response: ServerResponse;
  query: URLSearchParams;
  /** What of the path stood in the place of each `*`. */
  parts: string[];
  body: Record<string, unknown>;
  who: Operator | undefined;
}

type Answer = unknown;
type Handler = (asked: Asked) => Answer | Promise<Answer>;

const RANKS: Record<Role, number> = { viewer: 0, operator: 1, admin: 2 };

export class Api {
  #people = new People();
  /** Until when every connection is refused: `/dev/cut`. */
  #cutUntil = 0;
  #open = new Set<ServerResponse>();
  #handlers: [method: string, path: RegExp, role: Role | 'anyone', handler: Handler][] = [];

  constructor(private readonly world: World) {
    this.#logins();
    this.#devices();
    this.#lists();
    this.#administration();
  }

  handle = (request: IncomingMessage, response: ServerResponse, next: () => void): void => {
    const url = new URL(request.url ?? '/', 'http://console');
    if (url.pathname.startsWith('/dev/') && request.method === 'POST') return this.#develop(url, response);
    if (!url.pathname.startsWith('/api/')) return next();
    if (Date.now() < this.#cutUntil) return void request.socket.destroy();
    this.#open.add(response);
    response.on('close', () => this.#open.delete(response));
    void this.#answer(request, response, url);
  };

  async #answer(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    try {
      const path = url.pathname.replace('/api/v1', '');
      const found = this.#handlers.find(([method, pattern]) => method === request.method && pattern.test(path));
      if (!found) throw new Refusal(404, 'no-such-path', 'there is no such path');
      const [, pattern, role, handler] = found;
      const who = this.#people.who(cookieOf(request));
      if (role !== 'anyone') {
        if (!who) throw new Refusal(401, 'not-logged-in', 'nobody is logged in here');
        if (RANKS[who.role] < RANKS[role])
          throw new Refusal(403, 'denied', `this needs the role ${role}; yours is ${who.role}`, 'Ask an admin.');
      }
      if (request.method !== 'GET' && request.headers.origin !== `http://${request.headers.host}`)
        throw new Refusal(403, 'denied', 'the request comes from another page');
      const parts = (pattern.exec(path) ?? []).slice(1).map(decodeURIComponent);
      const answer = await handler({
        request,
        response,
        query: url.searchParams,
        parts,
        body: await bodyOf(request),
        who,
      });
      if (!response.headersSent) send(response, 200, answer ?? {});
    } catch (error) {
      const refusal = error instanceof Refusal ? error : new Refusal(500, 'store', String(error));
      if (refusal.retryAfter) response.setHeader('retry-after', refusal.retryAfter);
      const { code, message, nextStep } = refusal;
      send(response, refusal.status, { error: { code, message, ...(nextStep ? { next_step: nextStep } : {}) } });
    }
  }

  #on(method: 'GET' | 'POST', path: string, role: Role | 'anyone', handler: Handler): void {
    this.#handlers.push([method, new RegExp(`^${path.replaceAll('*', '([^/]+)')}$`), role, handler]);
  }

  #logins(): void {
    const people = this.#people;
    const enter = ({ request, response }: Asked, person: Operator) => {
      const cookie = people.enter(person, request.socket.remoteAddress ?? '', request.headers['user-agent'] ?? '');
      response.setHeader('set-cookie', `holdfast=${cookie}; HttpOnly; SameSite=Strict; Path=/`);
      return { name: person.name, role: person.role };
    };
    this.#on('POST', '/login', 'anyone', (asked) => {
      const { name, password, code } = asked.body as Record<string, string | undefined>;
      if (people.wait) throw new Refusal(429, 'too-many-logins', 'too many tries', undefined, people.wait);
      const found = people.login(name ?? '', password ?? '', code);
      if (found === 'wrong-login') throw new Refusal(401, found, 'the name, the password or the code is wrong');
      if (found === 'code-needed') throw new Refusal(401, found, 'a code is needed');
      return enter(asked, found);
    });
    this.#on('POST', '/login/first', 'anyone', (asked) => {
      const { token, password } = asked.body as Record<string, string>;
      const person = people.all.get(people.tokens.get(token ?? '') ?? '');
      if (!person)
        throw new Refusal(
          401,
          'wrong-login',
          'this link has been used, or has expired',
          'An admin can make a new one: holdfast user login NAME',
        );
      people.tokens.delete(token ?? '');
      Object.assign(person, { secret: password, password: true });
      return enter(asked, person);
    });
    this.#on(
      'POST',
      '/logout',
      'viewer',
      ({ request }) =>
        void people.logins.splice(
          people.logins.findIndex((login) => login.cookie === cookieOf(request)),
          1,
        ),
    );
    this.#on('GET', '/me', 'viewer', ({ who }) => ({
      name: who!.name,
      role: who!.role,
      password: true,
      totp: who!.totp ?? false,
      server: { version: '0.5.0', name: 'holdfast.example.com' },
    }));
    this.#on('POST', '/me/password', 'viewer', ({ who, body }) => {
      if (people.login(who!.name, String(body.current), CODE) === 'wrong-login')
        throw new Refusal(401, 'wrong-login', 'the present password is another one');
      Object.assign(who!, { secret: body.new });
    });
    const prove = (who: Person | undefined, password: unknown) => {
      if (who?.secret !== password) throw new Refusal(403, 'wrong-password', 'this is not your password');
    };
    this.#on('POST', '/me/totp', 'viewer', ({ who, body }) => {
      prove(who, body.password);
      return {
        secret: 'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP',
        uri: 'otpauth://totp/Holdfast:anna?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Holdfast',
      };
    });
    this.#on('POST', '/me/totp/confirm', 'viewer', ({ who, body }) => {
      if (body.code !== CODE)
        throw new Refusal(
          401,
          'wrong-login',
          'the code is another one',
          'Look whether the clock of your authenticator is right.',
        );
      who!.totp = true;
    });
    this.#on('POST', '/me/totp/remove', 'viewer', ({ who, body }) => {
      prove(who, body.password);
      if (body.code !== CODE) throw new Refusal(400, 'wrong-code', 'this is not the code of now');
      who!.totp = false;
    });
    this.#on('GET', '/operators/*/tokens', 'viewer', () => ({ items: people.accessTokens }));
    this.#on('POST', '/operators/*/tokens', 'viewer', ({ parts, who, body, response }) => {
      if (people.accessTokens.some((token) => token.name === body.name))
        throw new Refusal(409, 'name-taken', 'there is an access token of this name already');
      const since = new Date().toISOString();
      const expires = new Date(Date.now() + Number(body.expires_seconds) * 1000).toISOString();
      people.accessTokens.push({ name: String(body.name), since, expires });
      const token = `holdfast_${Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString('base64url')}`;
      send(response, 201, { name: body.name, operator: parts[0], role: who!.role, token, expires });
    });
    this.#on('POST', '/operators/*/tokens/*/revoke', 'viewer', ({ parts }) => {
      people.accessTokens = people.accessTokens.filter((token) => token.name !== parts[1]);
      return { name: parts[1], operator: parts[0] };
    });
    this.#on('GET', '/logins', 'viewer', ({ who, query, request }) => {
      const name = query.get('operator') ?? who!.name;
      return {
        items: people.logins
          .filter((login) => login.operator === name)
          .map(({ cookie, ...login }) => ({ ...login, current: cookie === cookieOf(request) })),
      };
    });
    this.#on(
      'POST',
      '/logins/*/revoke',
      'viewer',
      ({ parts }) =>
        void people.logins.splice(
          people.logins.findIndex((login) => String(login.id) === parts[0]),
          1,
        ),
    );
  }

  #device(name: string | undefined): Device {
    const device = this.world.get(name ?? '');
    if (!device)
      throw new Refusal(404, 'no-such-device', 'there is no device of this name', 'holdfast devices lists them.');
    return device;
  }

  #online(name: string | undefined): Device {
    const device = this.#device(name);
    if (!device.online)
      throw new Refusal(409, 'offline', 'the device is offline', 'Send a message: it waits for the device.');
    return device;
  }

  #devices(): void {
    const { world } = this;
    this.#on('GET', '/devices', 'viewer', ({ query, response, request }) => {
      if (query.get('follow') !== 'true') return { items: [...world.devices.values()] };
      follow(request, response, world, 'device', 'device', [...world.devices.values()], 'ready');
    });
    this.#on('GET', '/devices/*', 'viewer', ({ parts }) => this.#device(parts[0]));
    this.#on('GET', '/devices/*/cameras', 'viewer', () => ({ items: [] }));
    this.#on('GET', '/recordings', 'viewer', () => ({ items: [] }));
    this.#on('GET', '/viewers', 'viewer', () => ({ items: [] }));
    this.#on('POST', '/devices', 'admin', ({ body }) => {
      const gateway = this.#device(String(body.gateway));
      const repeat = world.get(String(body.name))?.gateway === gateway.name;
      if (!repeat) world.enrol(String(body.name), 'wired', gateway.name);
      return {
        name: body.name,
        gateway: gateway.name,
        repeat,
        config: `[[serial]]\ndevice = "${String(body.name)}"\npath = "/dev/ttyUSB0"\nspeed = 115200\n`,
      };
    });
    this.#on('POST', '/devices/*/messages', 'operator', ({ parts, body, who, response }) => {
      const device = this.#device(parts[0]);
      const message = world.write(device, 'out', String(body.kind ?? 'text'), String(body.body));
      world.happen('message-sent', { device: device.name, who: who!.name, detail: { message: message.id } });
      world.change(device);
      setTimeout(() => world.deliver(device), 1500);
      send(response, 201, { id: message.id, device: device.name, online: device.online });
    });
    this.#on('POST', '/devices/*/ping', 'operator', async ({ parts }) => {
      const device = this.#online(parts[0]);
      await new Promise((resolve) => setTimeout(resolve, 300));
      device.round_trip_ms = 12 + Math.random() * 60;
      world.change(device);
      return { device: device.name, round_trip_ms: device.round_trip_ms };
    });
    this.#on('POST', '/devices/*/revoke', 'admin', ({ parts, who }) => {
      const device = this.#device(parts[0]);
      if (device.online) world.disconnect(device, 'revoked');
      device.revoked = new Date().toISOString();
      world.happen('device-revoked', { device: device.name, who: who!.name });
      world.change(device);
      return {
        device: device.name,
        kind: device.kind,
        was_online: true,
        again: `holdfast enroll --name ${device.name}`,
      };
    });
    this.#on('POST', '/devices/*/tasks', 'operator', ({ parts, body, who, response }) => {
      const device = this.#online(parts[0]);
      send(response, 201, world.begin(device, String(body.kind), who!.name));
    });
    this.#on('POST', '/tasks/*/stop', 'operator', ({ parts, who }) => {
      const task = world.tasks.find((each) => String(each.id) === parts[0]);
      if (!task) throw new Refusal(404, 'no-such-task', 'there is no such task');
      if (task.ended) throw new Refusal(409, 'ended', 'the task has ended already');
      task.state = 'stopping';
      world.progress(task);
      setTimeout(() => world.end(task, 'done', `stopped by ${who!.name}`), 1500);
      return task;
    });
  }

  #lists(): void {
    const { world } = this;
    for (const [path, name] of [
      ['/messages', 'message'],
      ['/events', 'event'],
    ] as const) {
      this.#on('GET', path, 'viewer', ({ query, request, response }) => {
        const all: (Message | Happening)[] = name === 'message' ? world.messages : world.events;
        if (query.get('follow') === 'true') followList(request, response, world, name, all, query);
        else return page(all, query);
      });
    }
    this.#on('GET', '/sessions', 'viewer', ({ query }) => page(world.sessions, query));
    this.#on('GET', '/tasks', 'viewer', ({ query, request, response }) => {
      const device = query.get('device');
      if (query.get('follow') !== 'true') return page(world.tasks, query);
      const open = world.tasks.filter((task) => !task.ended && (!device || task.device === device));
      follow(
        request,
        response,
        world,
        'task',
        'task',
        open,
        'ready',
        (task) => !device || (task as { device: string }).device === device,
      );
    });
    this.#on('GET', '/parts', 'viewer', ({ request, response }) =>
      follow(request, response, world, 'parts', 'parts', [world.parts()]),
    );
    this.#on('GET', '/status', 'viewer', () => {
      const all = [...world.devices.values()];
      return {
        version: '0.5.0',
        pid: 4711,
        started: new Date(world.started).toISOString(),
        store: '5f1c9e7a22b04d3e',
        pin: '3b'.repeat(32),
        listen: '0.0.0.0:55223',
        classic: '127.0.0.1:55222',
        http: '127.0.0.1:55280',
        devices: all.filter((device) => device.kind !== 'classic' && !device.revoked).length,
        online: all.filter((device) => device.kind !== 'classic' && device.online).length,
        classic_online: all.filter((device) => device.kind === 'classic' && device.online).length,
        queued: all.reduce((sum, device) => sum + device.queued, 0),
      };
    });
  }

  #administration(): void {
    const people = this.#people;
    const day = () => new Date(Date.now() + 86_400_000).toISOString();
    this.#on('POST', '/tokens', 'admin', ({ body }) => {
      const name = typeof body.name === 'string' ? body.name : 'raspberrypi';
      if (this.world.get(name))
        throw new Refusal(
          409,
          'name-taken',
          'a device has this name already',
          'Choose another, or revoke that one first.',
        );
      const command = body.operator ? 'holdfast login' : 'holdfast-agent enroll';
      const line = `${command} hf1.${Buffer.from(crypto.getRandomValues(new Uint8Array(78))).toString('base64url')}`;
      return {
        line,
        expires: new Date(Date.now() + Number(body.expires_seconds ?? 86_400) * 1000).toISOString(),
        uses: body.uses ?? 1,
        addresses: body.addresses ?? ['holdfast.example.com:55223'],
        guessed: !body.addresses,
      };
    });
    this.#on('GET', '/operators', 'admin', () => ({
      items: [...people.all.values()].map(({ secret: _, ...operator }) => operator),
    }));
    this.#on('POST', '/operators', 'admin', ({ body, response }) => {
      const name = String(body.name);
      if (people.all.get(name) && !people.all.get(name)?.revoked)
        throw new Refusal(409, 'name-taken', 'a user has this name already');
      const role = body.role as Role;
      people.all.set(name, {
        name,
        role,
        since: new Date().toISOString(),
        password: false,
        totp: false,
      });
      send(response, 201, { name, role, login: people.oneTimeLogin(name), expires: day() });
    });
    const person = (name: string | undefined) => {
      const found = people.all.get(name ?? '');
      if (!found) throw new Refusal(404, 'no-such-operator', 'there is no operator of this name');
      return found;
    };
    this.#on(
      'POST',
      '/operators/*/role',
      'admin',
      ({ parts, body }) => void (person(parts[0]).role = body.role as Role),
    );
    this.#on('POST', '/operators/*/login', 'admin', ({ parts }) => ({
      name: parts[0],
      role: person(parts[0]).role,
      login: people.oneTimeLogin(parts[0]!),
      expires: day(),
    }));
    this.#on(
      'POST',
      '/operators/*/revoke',
      'admin',
      ({ parts }) => void (person(parts[0]).revoked = new Date().toISOString()),
    );
  }

  /** What tests do to the world: cut connections, let devices come and go. */
  #develop(url: URL, response: ServerResponse): void {
    const { world } = this;
    const device = world.get(url.searchParams.get('device') ?? '');
    if (url.pathname === '/dev/cut') {
      this.#cutUntil = Date.now() + Number(url.searchParams.get('ms') ?? 3000);
      for (const open of this.#open) open.destroy();
    } else if (url.pathname === '/dev/churn') world.churn = Number(url.searchParams.get('rate'));
    else if (url.pathname === '/dev/enrol') world.connect(world.enrol(url.searchParams.get('name') ?? 'new-device'));
    else if (url.pathname === '/dev/connect' && device && !device.online) world.connect(device);
    else if (url.pathname === '/dev/disconnect' && device?.online) world.disconnect(device);
    else if (url.pathname === '/dev/write' && device)
      world.write(device, 'in', 'text', url.searchParams.get('body') ?? '');
    send(response, 200, {});
  }
}

/** A page of a list, oldest first: behind `after`, or the newest before `before`. */
function page<T extends { id: number; device?: string }>(
  all: T[],
  query: URLSearchParams,
): { items: T[]; next?: number } {
  const device = query.get('device');
  const limit = Number(query.get('limit') ?? 500);
  const wanted = device ? all.filter((row) => row.device === device) : all;
  const before = query.get('before');
  if (before) {
    const older = wanted.filter((row) => row.id < Number(before));
    const items = older.slice(-limit);
    const [first] = items;
    return { items, ...(first && older.length > items.length && { next: first.id }) };
  }
  return { items: wanted.filter((row) => row.id > Number(query.get('after') ?? 0)).slice(0, limit) };
}

function cookieOf(request: IncomingMessage): string | undefined {
  return /(?:^|; )holdfast=([^;]+)/.exec(request.headers.cookie ?? '')?.[1];
}

async function bodyOf(request: IncomingMessage): Promise<Record<string, unknown>> {
  if (request.method === 'GET') return {};
  let text = '';
  for await (const chunk of request) text += String(chunk);
  try {
    return (text ? JSON.parse(text) : {}) as Record<string, unknown>;
  } catch {
    throw new Refusal(400, 'bad-request', 'the body is no JSON');
  }
}

function send(response: ServerResponse, status: number, body: unknown): void {
  if (response.headersSent) return;
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' });
  response.end(JSON.stringify(body));
}
