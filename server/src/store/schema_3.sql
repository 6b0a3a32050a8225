-- Tasks: what operators had devices do. A row ends once: as done, failed or lost.
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY,
    -- Its name on the wire, a random number: no device takes it for a task of a restored database.
    code INTEGER NOT NULL UNIQUE,
    device INTEGER NOT NULL REFERENCES devices,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    -- Who asked for it, and from where, if not from this machine.
    who TEXT NOT NULL,
    address TEXT,
    -- The start of the device's agent that was asked.
    boot INTEGER,
    requested INTEGER NOT NULL,
    -- Since when it ran.
    started INTEGER,
    ended INTEGER,
    -- Why it stops, or has ended.
    reason TEXT,
    -- The end of what it wrote.
    output BLOB,
    -- Bytes of its data connection, from the device and to it.
    bytes_in INTEGER NOT NULL DEFAULT 0,
    bytes_out INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX tasks_of_device ON tasks (device);
CREATE INDEX tasks_open ON tasks (id) WHERE ended IS NULL;
