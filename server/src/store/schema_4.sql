-- Operators elsewhere: people who reach the API over TLS, each by one key at a time.
CREATE TABLE operators (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    -- Since when they have this role.
    created INTEGER NOT NULL,
    revoked_at INTEGER,
    -- When, and from where, they last asked for something; within a minute.
    last_seen INTEGER,
    address TEXT
) STRICT;

-- A revoked key is kept, so that its holder can be told why it is turned away.
CREATE TABLE operator_keys (
    hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
    operator INTEGER NOT NULL REFERENCES operators,
    token INTEGER NOT NULL REFERENCES tokens,
    created INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX operator_keys_of_operator ON operator_keys (operator);
CREATE INDEX operator_keys_of_token ON operator_keys (token);

-- The role of an operator whom a token is for; none: it is for devices.
ALTER TABLE tokens ADD COLUMN role TEXT;

-- The operator elsewhere who asked for a task.
ALTER TABLE tasks ADD COLUMN operator INTEGER REFERENCES operators;
