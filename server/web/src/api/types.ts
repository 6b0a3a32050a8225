// What the API says, field by field as `server/src/api/view.rs` and the files beside it document it.
// Whatever stems from a device is told as it came: show it through `shown()` only.

/** A moment: RFC 3339 in UTC. */
export type Time = string;

export interface Page<T> {
  items: T[];
  /** Where the list goes on: behind this id, or before it. */
  next?: number;
}

export interface ErrorAnswer {
  error: { code: string; message: string; next_step?: string };
}

export type Role = 'viewer' | 'operator' | 'admin';

export interface Me {
  name: string;
  role: Role;
  password: boolean;
  totp: boolean;
  server: { version: string; name: string };
}

export interface ServerStatus {
  version: string;
  pid: number;
  started: Time;
  store: string;
  pin: string;
  listen: string;
  classic?: string;
  http?: string;
  devices: number;
  online: number;
  classic_online: number;
  queued: number;
}

export interface Device {
  name: string;
  kind: string;
  online: boolean;
  since?: Time;
  last_seen?: Time;
  address?: string;
  gateway?: string;
  version?: string;
  host_name?: string;
  ssh_user?: string;
  ssh_host_keys?: string[];
  key?: string;
  round_trip_ms?: number;
  queued: number;
  created: Time;
  revoked?: Time;
  sessions: number;
  connected_seconds: number;
  messages_in: number;
  bytes_in: number;
  messages_out: number;
  bytes_out: number;
  status?: Record<string, unknown>;
  status_at?: Time;
  /** Open tasks. */
  tasks?: number;
  /** Cameras that it tells of, while it is online. */
  cameras?: number;
}

export interface Session {
  id: number;
  device: string;
  address: string;
  boot?: string;
  started: Time;
  last_seen: Time;
  ended?: Time;
  reason?: string;
  reason_text?: string;
  messages_in: number;
  bytes_in: number;
  messages_out: number;
  bytes_out: number;
}

export interface Message {
  id: number;
  device: string;
  direction: 'in' | 'out';
  kind: string;
  received: Time;
  time?: Time;
  body?: string;
  body_base64?: string;
  state?: 'waiting' | 'delivered' | 'expired';
  delivered?: Time;
  expires?: Time;
  stream: string;
  number: number;
}

export interface Happening {
  id: number;
  at: Time;
  kind: string;
  device?: string;
  session?: number;
  address?: string;
  who?: string;
  detail: Record<string, unknown>;
}

export interface Task {
  id: number;
  device: string;
  kind: string;
  state: string;
  who: string;
  address?: string;
  requested: Time;
  started?: Time;
  ended?: Time;
  reason?: string;
  output?: string;
  bytes_in: number;
  bytes_out: number;
}

export interface Operator {
  name: string;
  role: Role;
  key?: string;
  password?: boolean;
  totp?: boolean;
  since: Time;
  revoked?: Time;
  last_seen?: Time;
  address?: string;
}

/** A one-time login: whoever has the token sets the password. */
export interface OneTimeLogin {
  name: string;
  role: Role;
  login: string;
  expires: Time;
  /** Where it is used, as far as the server knows its own addresses. */
  links?: string[];
}

/** A browser that is logged in. */
export interface Login {
  id: number;
  operator: string;
  since: Time;
  last_seen: Time;
  address?: string;
  browser?: string;
  current?: boolean;
}

/** By which a program asks in an operator's name. */
export interface AccessToken {
  name: string;
  since: Time;
  expires: Time;
  last_seen?: Time;
  address?: string;
}

/** An access token that was made: its secret is told only here. */
export interface NewAccessToken {
  name: string;
  operator: string;
  role: Role;
  token: string;
  expires: Time;
}

export interface Token {
  line: string;
  expires: Time;
  uses: number;
  addresses: string[];
  guessed: boolean;
}

export interface Wired {
  name: string;
  gateway: string;
  repeat: boolean;
  config: string;
}

export interface Part {
  name: string;
  kind: string;
  state: string;
  since?: Time;
  restarts: number;
  reason?: string;
  figures?: Record<string, unknown>;
}

/** What `parts` says each second. Units stand in the names of figures: `_bytes`, `_seconds`, `_ms`, `_percent`, `_per_second`. */
export interface Parts {
  parts: Part[];
  figures: Record<string, unknown>;
}

export interface Camera {
  name: string;
  kind: string;
  width?: number;
  height?: number;
  framerate?: number;
  /** How many look at it now. */
  viewers: number;
  /** The number of the recording that is being made of it. */
  recording?: number;
}

/** Somebody who looks at a camera. */
export interface Viewer {
  id: number;
  device: string;
  camera: string;
  who: string;
  address?: string;
  way: string;
  since: Time;
  frames: number;
  bytes: number;
  dropped: number;
}

export interface Recording {
  id: number;
  device: string;
  camera: string;
  file: string;
  state: 'recording' | 'done' | 'failed';
  who: string;
  address?: string;
  started: Time;
  ended?: Time;
  reason?: string;
  width: number;
  height: number;
  seconds: number;
  frames: number;
  bytes: number;
}
