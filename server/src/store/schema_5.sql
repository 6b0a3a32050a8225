-- Passwords of operators, for the console: argon2; none: they have keys only.
ALTER TABLE operators ADD COLUMN password TEXT;
-- The secret of their second factor (TOTP), one that they have not confirmed yet, and the newest step whose code was used.
ALTER TABLE operators ADD COLUMN totp BLOB;
ALTER TABLE operators ADD COLUMN totp_offered BLOB;
ALTER TABLE operators ADD COLUMN totp_step INTEGER NOT NULL DEFAULT 0;

-- One-time logins, by which a password is set. The token itself is not kept.
CREATE TABLE first_logins (
    hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
    operator INTEGER NOT NULL REFERENCES operators,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX first_logins_of_operator ON first_logins (operator);

-- Browsers that are logged in; what has ended is not kept. The secret itself is not kept.
CREATE TABLE logins (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    operator INTEGER NOT NULL REFERENCES operators,
    created INTEGER NOT NULL,
    -- When, and from where, it was last used; within a minute.
    last_seen INTEGER NOT NULL,
    address TEXT NOT NULL,
    -- Whether it came over TLS.
    secure INTEGER NOT NULL,
    -- What the browser calls itself.
    browser TEXT
) STRICT;

CREATE INDEX logins_of_operator ON logins (operator);

-- Secrets by which programs ask in an operator's name; what was revoked is not kept. The secret itself is not kept.
CREATE TABLE access_tokens (
    hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
    operator INTEGER NOT NULL REFERENCES operators,
    -- What its operator calls it.
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- When, and from where, it was last used; within a minute.
    last_seen INTEGER,
    address TEXT,
    UNIQUE (operator, name)
) STRICT, WITHOUT ROWID;

-- Lines of operators who were revoked since: they would give the rights back.
UPDATE tokens SET expires_at = 0 WHERE role IS NOT NULL AND EXISTS
    (SELECT 1 FROM operators WHERE operators.name = tokens.name AND revoked_at >= tokens.created);
