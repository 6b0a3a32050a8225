// A real server and real agents, in a directory of their own.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { request } from 'node:http';
import { mkdtempSync, readFileSync, mkdirSync, openSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Where `cargo build -p holdfast -p holdfast-agent` puts the programs. */
const PROGRAMS = process.env.HOLDFAST_PROGRAMS ?? new URL('../../../target/debug', import.meta.url).pathname;
const LONGEST_WAIT = 30_000;

/** The name of a variable in the environment of an agent, and of all that it starts. */
const MARK = 'HOLDFAST_TESTED_AGENT';

export interface Process {
  id: number;
  parent: number;
  command: string;
}

export interface Agent {
  /** Takes an enrolment line, or the command with it as the console shows it. */
  enrol(line: string): Promise<void>;
  /** Holds the connection until it is ended. */
  start(): void;
  end(): Promise<void>;
  /** Kills it, as a loss of power would. */
  kill(): Promise<void>;
  /** It and all that it has started, as far as they run now. */
  processes(): Process[];
  /** Runs `holdfast-agent` for this device. */
  tell(...given: string[]): Promise<string>;
}

export class World {
  readonly directory = mkdtempSync(join(tmpdir(), 'holdfast-console-'));
  readonly #data = join(this.directory, 'data');
  readonly #processes = new Set<ChildProcess>();
  #server: ChildProcess | undefined;
  #listen = '127.0.0.1:0';
  #http = '127.0.0.1:0';

  /** The console on the loopback address. */
  get http(): string {
    return `http://${this.#http}`;
  }

  /** The console over TLS, with the certificate that the server has made itself. */
  get https(): string {
    return `https://localhost:${this.#listen.split(':').at(-1)}`;
  }

  /** Starts the server, on the ports that it had if it has run before. */
  async start(): Promise<void> {
    const log = join(this.directory, `server-${Date.now()}.log`);
    const places = ['--listen', this.#listen, '--http', this.#http, '--classic', 'off'];
    this.#server = this.#spawn('holdfast', ['serve', '--data', this.#data, '--log-format', 'json', ...places], log);
    const ready = await until('the server is ready', () => {
      const lines = readFileSync(log, 'utf8').split('\n').slice(0, -1);
      return lines
        .map((line) => JSON.parse(line) as { fields?: Record<string, string> })
        .map((line) => line.fields ?? (line as Record<string, string>))
        .find((fields) => fields.message?.startsWith('ready'));
    });
    this.#listen = ready.listen ?? this.#listen;
    this.#http = ready.http ?? this.#http;
  }

  /** Ends the server, as a service manager does. */
  async end(): Promise<void> {
    await this.#end(this.#server);
  }

  /** Kills the server, as a loss of power would. */
  async kill(): Promise<void> {
    await this.#end(this.#server, 'SIGKILL');
  }

  /** Runs `holdfast` on the server. */
  async tell(...given: string[]): Promise<string> {
    return (await run(join(PROGRAMS, 'holdfast'), [...given, '--data', this.#data])).stdout;
  }

  /** Asks the API on the server's own socket; with a body it is something to be done. */
  ask<T>(path: string, body?: unknown): Promise<T> {
    const method = body === undefined ? 'GET' : 'POST';
    const headers = { 'content-type': 'application/json' };
    const options = { socketPath: join(this.#data, 'api.sock'), path: `/api/v1${path}`, method, headers };
    return new Promise((resolve, reject) => {
      const asked = request(options, (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => (text += chunk.toString()));
        response.on('end', () => {
          if (response.statusCode && response.statusCode < 300) resolve(JSON.parse(text) as T);
          else reject(new Error(`${method} ${path}: ${response.statusCode} ${text}`));
        });
      });
      asked.on('error', reject);
      asked.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** The token of a one-time login for a new user. */
  async welcome(name: string, role: string): Promise<string> {
    const printed = await this.tell('user', 'add', name, '--role', role);
    const token = /\/#\/first\/(\S+)/.exec(printed)?.[1];
    if (!token) throw new Error(`expected a link with a one-time login, found ${printed}`);
    return token;
  }

  /** A device, with this in its agent.toml. */
  agent(name: string, settings = ''): Agent {
    const state = join(this.directory, name);
    mkdirSync(state, { mode: 0o700 });
    const config = join(this.directory, `${name}.toml`);
    writeFileSync(config, settings);
    const own = ['--state', state, '--config', config];
    let running: ChildProcess | undefined;
    const tell = async (...given: string[]) => (await run(join(PROGRAMS, 'holdfast-agent'), [...given, ...own])).stdout;
    return {
      tell,
      enrol: async (line) => void (await tell('enroll', /hf1\.\S+/.exec(line)?.[0] ?? line)),
      start: () => {
        const log = join(this.directory, `${name}.log`);
        running = this.#spawn('holdfast-agent', ['run', ...own], log, { [MARK]: state });
      },
      end: () => this.#end(running),
      kill: () => this.#end(running, 'SIGKILL'),
      processes: () => marked(`${MARK}=${state}`),
    };
  }

  /** Ends all, and keeps nothing. */
  async stop(): Promise<void> {
    await Promise.all([...this.#processes].map((process) => this.#end(process)));
    rmSync(this.directory, { recursive: true, force: true });
  }

  #spawn(program: string, given: string[], log: string, more: Record<string, string> = {}): ChildProcess {
    const file = openSync(log, 'a');
    const env = { ...process.env, ...more };
    const child = spawn(join(PROGRAMS, program), given, { stdio: ['ignore', file, file], env });
    this.#processes.add(child);
    return child;
  }

  async #end(process: ChildProcess | undefined, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (!process || !this.#processes.delete(process)) return;
    const hasEnded = () => process.exitCode !== null || process.signalCode !== null;
    process.kill(signal);
    await until('a process ends', () => hasEnded() || undefined).catch(() => process.kill('SIGKILL'));
  }
}

/** What the kernel tells of a process. One that has just ended has nothing. */
function read(id: number, what: string): string[] {
  try {
    return readFileSync(`/proc/${id}/${what}`, 'utf8').split('\0');
  } catch {
    return [];
  }
}

/** The processes that there are, or of which this is so. */
export function processes(isWanted: (id: number) => boolean = () => true): Process[] {
  const ids = readdirSync('/proc').map(Number).filter(Number.isInteger);
  return ids.filter(isWanted).map((id) => {
    // Behind the name, in which there may be anything: the state, and the parent.
    const parent = Number(read(id, 'stat').join().split(') ').at(-1)?.split(' ')[1]);
    return { id, parent, command: read(id, 'cmdline').join(' ').trim() };
  });
}

/** The processes that have this in their environment. */
function marked(mark: string): Process[] {
  return processes((id) => read(id, 'environ').includes(mark));
}

/** What is found at last; looked for again and again, for so long as nothing takes. */
export async function until<T>(what: string, look: () => T | undefined): Promise<T> {
  const end = Date.now() + LONGEST_WAIT;
  for (;;) {
    const found = look();
    if (found !== undefined) return found;
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
