-- For which role at least the device showed the camera that was recorded: others do not see the recording. Of those from
-- before nobody knows it.
ALTER TABLE recordings ADD COLUMN role TEXT NOT NULL DEFAULT 'admin';
