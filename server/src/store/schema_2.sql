-- Whether an operator made the device's key, in a provisioning block: a microcontroller with a network of its own.
-- Of those that are there the newest enrolment tells.
ALTER TABLE devices ADD COLUMN firmware INTEGER NOT NULL DEFAULT 0;

UPDATE devices SET firmware = 1 WHERE gateway IS NULL AND (
    SELECT json_extract(detail, '$.firmware') FROM events
        WHERE events.device = devices.id AND events.kind = 'device-enrolled' ORDER BY events.id DESC LIMIT 1
);
