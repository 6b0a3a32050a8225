-- What was recorded of devices' cameras: files below `recordings` in the data directory.
CREATE TABLE recordings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device INTEGER NOT NULL REFERENCES devices,
    camera TEXT NOT NULL,
    file TEXT NOT NULL UNIQUE,
    -- 'recording', 'done' or 'failed'.
    state TEXT NOT NULL,
    who TEXT NOT NULL,
    address TEXT,
    started INTEGER NOT NULL,
    ended INTEGER,
    reason TEXT,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    milliseconds INTEGER NOT NULL DEFAULT 0,
    frames INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX recordings_of_device ON recordings (device, id);
