// A fleet that is not there: devices that come and go, write, and are written to.

import { EventEmitter } from 'node:events';
import type { Device, Happening, Message, Part, Parts, Session, Task } from '../src/api/types.ts';
import { HOSTILE_TEXTS } from './hostile.ts';
import { Random } from './random.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const PLACES = ['camera', 'greenhouse', 'kiosk', 'sensor', 'gate', 'tower', 'pump', 'lobby'];

function iso(at: number): string {
  return new Date(at).toISOString();
}

export class World extends EventEmitter {
  readonly started = Date.now() - 9 * DAY - 5 * HOUR;
  readonly devices = new Map<string, Device>();
  readonly sessions: Session[] = [];
  readonly messages: Message[] = [];
  readonly events: Happening[] = [];
  readonly tasks: Task[] = [];
  /** How many devices change each second. */
  churn: number;

  #random = new Random();
  #sessionId = 0;
  #beats = 0;

  constructor(size: number) {
    super();
    this.setMaxListeners(0);
    this.churn = size > 1000 ? size / 20 : size / 60;
    for (let index = 0; index < size; index += 1) this.#make(index, size);
    this.sessions
      .sort((a, b) => Date.parse(a.started) - Date.parse(b.started))
      .forEach((session) => (session.id = ++this.#sessionId));
    this.#talk();
    setInterval(() => this.#beat(), 200).unref();
    setInterval(() => this.emit('parts', this.parts()), 1000).unref();
  }

  get(name: string): Device | undefined {
    return this.devices.get(name);
  }

  change(device: Device): void {
    device.tasks = this.tasks.filter((task) => task.device === device.name && !task.ended).length;
    this.emit('device', device);
  }

  happen(kind: string, more: Partial<Happening> = {}, at = Date.now()): void {
    const event: Happening = { id: (this.events.at(-1)?.id ?? 0) + 1, at: iso(at), kind, detail: {}, ...more };
    this.events.push(event);
    if (this.events.length > 20_000) this.events.splice(0, 5000);
    this.emit('event', event);
  }

  write(device: Device, direction: 'in' | 'out', kind: string, body: string, at = Date.now()): Message {
    const number = (this.messages.at(-1)?.id ?? 0) + 1;
    const bytes =
      direction === 'in' && body.startsWith('\u0001bytes')
        ? { body_base64: Buffer.from(body).toString('base64') }
        : { body };
    const message: Message = {
      id: number,
      device: device.name,
      direction,
      kind,
      received: iso(at),
      time: iso(at - 40),
      stream: '9f3a11c0',
      number,
      ...bytes,
    };
    if (direction === 'out') {
      message.state = 'waiting';
      device.queued += 1;
    } else {
      device.messages_in += 1;
    }
    this.messages.push(message);
    this.emit('message', message);
    return message;
  }

  /** What waits for a device that is online is delivered after a moment. */
  deliver(device: Device): void {
    if (!device.online) return;
    for (const message of this.messages) {
      if (message.device !== device.name || message.state !== 'waiting') continue;
      message.state = 'delivered';
      message.delivered = iso(Date.now());
      device.queued -= 1;
      device.messages_out += 1;
    }
    this.change(device);
  }

  begin(device: Device, kind: string, who: string): Task {
    const now = Date.now();
    const task: Task = {
      id: (this.tasks.at(-1)?.id ?? 0) + 1,
      device: device.name,
      kind,
      state: 'running',
      who,
      requested: iso(now),
      started: iso(now),
      bytes_in: 0,
      bytes_out: 0,
    };
    this.tasks.push(task);
    this.happen('task-running', { device: device.name, who, detail: { task: task.id, kind } });
    this.progress(task);
    if (kind === 'reboot') setTimeout(() => this.end(task, 'done', 'the device started anew'), 6000).unref();
    return task;
  }

  progress(task: Task): void {
    this.emit('task', task);
    const device = this.get(task.device);
    if (device) this.change(device);
  }

  end(task: Task, state: string, reason: string): void {
    if (task.ended) return;
    Object.assign(task, { state, reason, ended: iso(Date.now()) });
    this.happen(`task-${state}`, {
      device: task.device,
      who: task.who,
      detail: { task: task.id, kind: task.kind, reason },
    });
    this.progress(task);
  }

  enrol(name: string, kind = 'agent', gateway?: string): Device {
    const now = Date.now();
    const device = this.#device(name, kind, now);
    if (gateway) device.gateway = gateway;
    this.devices.set(name, device);
    this.happen('device-enrolled', { device: name, address: device.address!, detail: { token: 7 } });
    this.change(device);
    return device;
  }

  connect(device: Device): void {
    const now = iso(Date.now());
    Object.assign(device, { online: true, since: now, last_seen: now, sessions: device.sessions + 1 });
    this.sessions.push(this.#session(device, Date.now(), undefined, ++this.#sessionId));
    this.happen('device-connected', { device: device.name, address: device.address!, session: this.#sessionId });
    this.change(device);
    setTimeout(() => this.deliver(device), 800).unref();
  }

  disconnect(device: Device, reason = 'lost'): void {
    const now = iso(Date.now());
    device.online = false;
    delete device.since;
    device.last_seen = now;
    const open = this.sessions.findLast((session) => session.device === device.name && !session.ended);
    if (open) Object.assign(open, { ended: now, last_seen: now, reason });
    this.happen(reason === 'lost' ? 'device-lost' : 'device-disconnected', {
      device: device.name,
      address: device.address!,
      detail: { reason },
    });
    this.change(device);
  }

  parts(): Parts {
    const wave = Math.sin(Date.now() / 7000);
    const part = (name: string, kind: string, figures: Record<string, number>, more: Partial<Part> = {}): Part => ({
      name,
      kind,
      state: 'running',
      since: iso(this.started),
      restarts: 0,
      figures,
      ...more,
    });
    const online = [...this.devices.values()].filter((device) => device.online).length;
    const beats = Math.round((Date.now() - this.started) / 1000);
    const works = (open: number, total: number) => ({ open, total });
    const rounds = (every: number, last_round_ms: number) => ({ rounds: Math.round(beats / every), last_round_ms });
    return {
      figures: {
        memory_bytes: 41_000_000 + wave * 2_400_000,
        database_bytes: 312_400_000 + this.events.length * 900,
        messages_per_second: 42 + wave * 30,
        store_backlog: Math.max(0, Math.round(wave * 9)),
        devices_online: online,
        requests: 1,
        streams: 3,
      },
      parts: [
        part('device listener', 'listener', works(online + 2, 91_204)),
        part('classic listener', 'listener', works(3, 611)),
        part('HTTP listener', 'listener', works(2, 18_440)),
        part('API socket', 'listener', works(0, 2215)),
        part('store writer', 'writer', { jobs: Math.max(0, Math.round(wave * 9)), waiting_bytes: 4200 + wave * 4000 }),
        part(
          'log files',
          'writer',
          { waiting: 4 },
          {
            restarts: 1,
            reason: 'a panic: <b>index out of bounds</b>: the len is 0 but the index is 0',
            since: iso(Date.now() - 3 * HOUR),
          },
        ),
        part('housekeeping', 'timer', rounds(30, 3.2)),
        part('certificate watch', 'timer', rounds(5, 0.1), {
          state: 'restarting',
          restarts: 3,
          reason: 'called `Option::unwrap()` on a `None` value',
          since: iso(Date.now() - 4000),
        }),
        part('fleet watch', 'timer', rounds(1, 1.8 + wave)),
        part('devices', 'handler', works(online, 88_120)),
        part('task data', 'handler', works(2, 1804)),
        part('operators elsewhere', 'handler', works(0, 930)),
        part('operators here', 'handler', works(0, 2215)),
        part('browsers', 'handler', works(2, 18_440)),
        part('enrolment', 'handler', works(0, 61)),
        part('tasks', 'handler', works(this.tasks.filter((task) => !task.ended).length, 1804)),
        part('ssh sessions', 'relay', works(1, 402)),
        part('live video', 'relay', works(0, 35)),
      ],
    };
  }

  #device(name: string, kind: string, created: number): Device {
    const random = this.#random;
    return {
      name,
      kind,
      online: false,
      queued: 0,
      created: iso(created),
      sessions: 0,
      connected_seconds: 0,
      messages_in: 0,
      bytes_in: 0,
      messages_out: 0,
      bytes_out: 0,
      tasks: 0,
      address:
        kind === 'classic'
          ? name
          : random.chance(0.1)
            ? `2001:db8:${random.below(9999)}::${random.below(99)}`
            : `203.0.113.${random.below(255)}`,
    };
  }

  #make(index: number, size: number): void {
    const random = this.#random;
    const now = Date.now();
    const kind = index % 23 === 7 ? 'classic' : index % 11 === 5 ? 'wired' : index % 13 === 3 ? 'firmware' : 'agent';
    const hostile = HOSTILE_TEXTS[index - 8];
    const name =
      kind === 'classic'
        ? `198.51.100.${(index / 23) | 0}`
        : index === 9
          ? '__proto__'
          : `${PLACES[index % PLACES.length]}-${((index / PLACES.length) | 0) + 1}`;
    const device = this.#device(name, kind, now - (3 + random.below(200)) * DAY);
    device.online = random.chance(0.9);
    const since = now - random.below(5 * DAY);
    device.last_seen = device.online ? iso(now - random.below(20_000)) : iso(since);
    if (device.online) device.since = iso(since);
    if (kind !== 'classic') {
      device.version = random.pick(['0.4.0', '0.4.0', '0.4.1', '0.3.9']);
      device.host_name = hostile ?? name;
      device.key = Array.from({ length: 64 }, () => random.below(16).toString(16)).join('');
      if (hostile) device.version = hostile;
      if (random.chance(0.9)) device.round_trip_ms = 4 + random.next() ** 3 * 380;
    }
    if (kind === 'agent') {
      device.ssh_user = 'pi';
      device.ssh_host_keys = ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4cW7nJ8b0Ck2c9m0dQYy6rV3oWnN1kT5sUuE2xqL9f'];
      device.status = {
        'load-1-minute': 0.2 + random.next(),
        'memory-available-bytes': 2e8 + random.below(7e8),
        'disk-free-bytes': 4e9 + random.below(2e10),
        'cpu-temperature-celsius': 38 + random.next() * 30,
        'throttled-bits': 0,
        'uptime-seconds': random.below(40 * 86_400),
      };
      device.status_at = iso(now - random.below(60_000));
    }
    if (kind === 'wired') device.gateway = 'camera-1';
    if (index % 41 === 17) {
      device.revoked = iso(now - random.below(20 * DAY));
      device.online = false;
      delete device.since;
    }
    device.messages_in = random.below(90_000);
    device.bytes_in = device.messages_in * 180;
    device.messages_out = random.below(400);
    device.bytes_out = device.messages_out * 90;
    device.connected_seconds = random.below(180 * 86_400);
    this.devices.set(name, device);
    if (size <= 1000 || index < 40) this.#pastOf(device, since);
  }

  /** Sessions of the last weeks: nights without power, short cuts, days without a cloud. */
  #pastOf(device: Device, since: number): void {
    const random = this.#random;
    let end = since;
    if (device.online) this.sessions.push(this.#session(device, since));
    const earliest = Math.max(Date.parse(device.created), Date.now() - 34 * DAY);
    while (end > earliest) {
      const gap = random.chance(0.7) ? 20_000 + random.below(10 * MINUTE) : random.below(9 * HOUR);
      const ended = end - gap;
      const started = Math.max(earliest, ended - random.below(2 * DAY) - MINUTE);
      if (ended <= started) break;
      this.sessions.push(this.#session(device, started, ended));
      end = started;
    }
    device.sessions = this.sessions.filter((session) => session.device === device.name).length;
  }

  #session(device: Device, started: number, ended?: number, id = 0): Session {
    const session: Session = {
      id,
      device: device.name,
      address: device.address!,
      boot: 'c4a1',
      started: iso(started),
      last_seen: iso(ended ?? Date.now()),
      messages_in: 12,
      bytes_in: 2048,
      messages_out: 1,
      bytes_out: 90,
    };
    if (ended) {
      session.ended = iso(ended);
      session.reason = this.#random.pick(['lost', 'lost', 'broken', 'closed', 'replaced', 'server-stopped']);
    }
    return session;
  }

  #talk(): void {
    const random = this.#random;
    const now = Date.now();
    const all = [...this.devices.values()];
    if (all.length === 0) return;
    const said = [
      'the door is open',
      'the door is closed',
      'temperature 21.4 °C',
      'battery at 84 %',
      'motion at the north gate',
      'all quiet',
      'restarted after power failure',
    ];
    for (let index = 900; index > 0; index -= 1) {
      const device = index % 3 === 0 ? all[0]! : random.pick(all);
      const at = now - index * 7 * MINUTE;
      if (device.kind !== 'classic' && random.chance(0.12)) {
        const message = this.write(
          device,
          'out',
          'text',
          random.pick(['close it', 'report now', 'sleep until 06:00']),
          at,
        );
        Object.assign(
          message,
          random.chance(0.1) ? { state: 'expired' } : { state: 'delivered', delivered: iso(at + 400) },
        );
        device.queued = 0;
      } else {
        this.write(device, 'in', random.chance(0.8) ? 'text' : 'sensor.reading', random.pick(said), at);
      }
    }
    HOSTILE_TEXTS.forEach((text, index) => this.write(all[1]!, 'in', 'text', text, now - (40 - index) * MINUTE));
    this.write(all[0]!, 'in', 'picture', '\u0001bytes \u00ff\u00fe of a picture', now - 90_000);
    this.write(all[0]!, 'in', 'text', 'a first line\n\tand a second, indented\n{"json": [1, 2, 3]}', now - 60_000);
    for (let index = 300; index > 0; index -= 1) this.#happened(now - index * 4 * MINUTE);
    this.happen(
      'clone-refused',
      { device: all[0]!.name, address: '192.0.2.77', detail: { original: '203.0.113.9' } },
      now - 3 * MINUTE,
    );
    this.happen(
      'connection-refused',
      { address: '192.0.2.5', detail: { reason: 'unknown-key', text: HOSTILE_TEXTS[0], key: 'ab'.repeat(32) } },
      now - 2 * MINUTE,
    );
    this.happen(
      'request-denied',
      {
        who: 'viktor',
        address: '198.51.100.4',
        detail: { action: 'revoke', object: HOSTILE_TEXTS[4], role: 'viewer', protocol: 2 },
      },
      now - MINUTE,
    );
    this.#tasks(all[0]!, now);
  }

  #happened(at: number): void {
    const random = this.#random;
    const device = random.pick([...this.devices.values()].slice(0, 300));
    const kind = random.pick([
      'device-connected',
      'device-connected',
      'device-lost',
      'device-disconnected',
      'message-sent',
      'task-done',
      'task-failed',
      'token-created',
      'message-expired',
      'disk-full',
      'server-started',
    ]);
    const about = /^(token|disk|server)/.test(kind) ? {} : { device: device.name };
    const who = /^(token|message-sent|task)/.test(kind) ? { who: random.pick(['anna', 'viktor', 'root']) } : {};
    const detail: Record<string, unknown> =
      kind === 'device-lost'
        ? { reason: 'lost' }
        : kind.startsWith('task')
          ? {
              task: random.below(900),
              kind: 'ssh',
              reason:
                kind === 'task-failed' ? 'the device has no SSH server on 127.0.0.1:22' : 'closed by the operator',
            }
          : {};
    this.happen(
      kind,
      { ...about, ...who, ...(kind.startsWith('device') ? { address: device.address! } : {}), detail },
      at,
    );
  }

  #tasks(device: Device, now: number): void {
    const task = (id: number, more: Partial<Task>): Task => ({
      id,
      device: device.name,
      kind: 'ssh',
      state: 'done',
      who: 'anna',
      address: '198.51.100.7',
      requested: iso(now - (9 - id) * HOUR),
      started: iso(now - (9 - id) * HOUR + 200),
      ended: iso(now - (9 - id) * HOUR + 40 * MINUTE),
      bytes_in: 182_000 * id,
      bytes_out: 9000 * id,
      ...more,
    });
    this.tasks.push(
      task(1, { kind: 'reboot', reason: 'the device started anew', bytes_in: 0, bytes_out: 0 }),
      task(2, { reason: 'closed by the operator' }),
      task(3, {
        state: 'failed',
        reason: 'the device has no SSH server on 127.0.0.1:22',
        output: `connect: Connection refused\n${HOSTILE_TEXTS[6]}`,
      }),
      task(4, { state: 'lost', reason: 'the device stayed away' }),
    );
    const running = task(5, {
      state: 'running',
      started: iso(now - 12 * MINUTE),
      requested: iso(now - 12 * MINUTE),
    });
    delete running.ended;
    this.tasks.push(running);
    device.online = true;
    device.since ??= iso(now - HOUR);
    device.tasks = 1;
  }

  #beat(): void {
    const random = this.#random;
    const all = [...this.devices.values()];
    this.#beats += 1;
    const changes = this.churn / 5;
    const now = Math.floor(changes) + (random.chance(changes % 1) ? 1 : 0);
    for (let index = 0; index < now && all.length > 0; index += 1) {
      const device = random.pick(all);
      if (device.revoked || device === all[0]) continue;
      if (device.online && random.chance(0.25)) this.disconnect(device);
      else if (!device.online) this.connect(device);
      else {
        device.last_seen = iso(Date.now());
        if (device.round_trip_ms) device.round_trip_ms = Math.max(3, device.round_trip_ms + random.next() * 10 - 5);
        this.change(device);
      }
    }
    if (this.#beats % 25 === 0 && all[0])
      this.write(all[0], 'in', 'text', random.pick(['all quiet', 'motion at the north gate', 'battery at 83 %']));
    const open = this.tasks.find((task) => !task.ended && task.kind === 'ssh');
    if (open && this.#beats % 10 === 0) {
      open.bytes_in += 8000;
      this.progress(open);
    }
  }
}
