-- Times are milliseconds since 1970 (UTC). Streams, boots and the store's id are random 64-bit numbers; they and the
-- numbers of messages are kept as the signed integers of the same bits.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
    id INTEGER PRIMARY KEY,
    -- A framed device has a name without dots and colons; a classic client is named by its address, which has some.
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('framed', 'classic')),
    created INTEGER NOT NULL,
    revoked_at INTEGER,
    -- The device that this one is wired to: it has no key of its own then, and is known by its name there.
    gateway INTEGER REFERENCES devices,
    last_seen INTEGER,
    -- What the device says of itself.
    host_name TEXT,
    version TEXT,
    ssh_user TEXT,
    ssh_host_keys TEXT NOT NULL DEFAULT '[]',
    -- The longest body of a message that it took when it last connected, in bytes.
    longest_message INTEGER,
    status TEXT,
    status_at INTEGER,
    -- Sums over all sessions; of connected time, over those that have ended.
    sessions INTEGER NOT NULL DEFAULT 0,
    connected_millis INTEGER NOT NULL DEFAULT 0,
    messages_in INTEGER NOT NULL DEFAULT 0,
    bytes_in INTEGER NOT NULL DEFAULT 0,
    messages_out INTEGER NOT NULL DEFAULT 0,
    bytes_out INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX devices_wired ON devices (gateway) WHERE gateway IS NOT NULL;

-- A revoked key is kept, so that its holder can be told why it is turned away.
CREATE TABLE keys (
    hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
    device INTEGER NOT NULL REFERENCES devices,
    created INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX keys_of_device ON keys (device);

CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    device INTEGER NOT NULL REFERENCES devices,
    address TEXT NOT NULL,
    boot INTEGER,
    started INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    ended INTEGER,
    reason TEXT,
    reason_text TEXT,
    messages_in INTEGER NOT NULL DEFAULT 0,
    bytes_in INTEGER NOT NULL DEFAULT 0,
    messages_out INTEGER NOT NULL DEFAULT 0,
    bytes_out INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX sessions_of_device ON sessions (device);
CREATE INDEX sessions_open ON sessions (id) WHERE ended IS NULL;

-- A message from a device is appended here, and changes nothing else at once: an index by device would have each
-- device's page of it written again with each message.
CREATE TABLE messages (
    -- Given by the writer in the order of commits, so that a reader can go on after the last one it saw.
    id INTEGER PRIMARY KEY,
    device INTEGER NOT NULL REFERENCES devices,
    -- 0: from the device (up), 1: to it (down).
    direction INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    number INTEGER NOT NULL,
    -- The message before it in the same stream; 0: none. A repeat is found along these.
    previous INTEGER NOT NULL,
    session INTEGER REFERENCES sessions,
    kind TEXT NOT NULL,
    -- The device's time (up) or the sender's (down); 0 if it is not known.
    time INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    expires_at INTEGER,
    expired_at INTEGER,
    delivered_at INTEGER,
    body BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX messages_down ON messages (device, stream, number) WHERE direction = 1;
CREATE INDEX messages_waiting ON messages (device, id)
    WHERE direction = 1 AND delivered_at IS NULL AND expired_at IS NULL;
CREATE INDEX messages_expiring ON messages (expires_at)
    WHERE direction = 1 AND delivered_at IS NULL AND expired_at IS NULL AND expires_at IS NOT NULL;

-- The highest number of each stream, and the message that has it. It outlives its messages, or a repeat of one
-- that has been deleted would be archived as new. Of streams from devices: up to the message in meta 'settled'.
CREATE TABLE streams (
    device INTEGER NOT NULL,
    direction INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    highest INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (device, direction, stream)
) STRICT, WITHOUT ROWID;

-- The messages of each device, up to the one in meta 'settled'. Written for many messages at once; those behind
-- it are few and are looked for one by one.
CREATE TABLE device_messages (
    device INTEGER NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (device, message)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    device INTEGER REFERENCES devices,
    session INTEGER REFERENCES sessions,
    address TEXT,
    who TEXT,
    detail TEXT NOT NULL
) STRICT;

CREATE INDEX events_of_device ON events (device) WHERE device IS NOT NULL;

CREATE TABLE tokens (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    name TEXT,
    uses INTEGER NOT NULL,
    created INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    created_by TEXT
) STRICT;

CREATE TABLE token_uses (
    token INTEGER NOT NULL REFERENCES tokens,
    key BLOB NOT NULL,
    device INTEGER NOT NULL REFERENCES devices,
    at INTEGER NOT NULL,
    PRIMARY KEY (token, key)
) STRICT, WITHOUT ROWID;

-- How far the plain-text logs have been written and synced (logs.rs).
CREATE TABLE log_files (
    name TEXT PRIMARY KEY,
    generation INTEGER NOT NULL,
    length INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
