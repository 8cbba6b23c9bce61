-- Bytes per second that somebody allows an upload; NULL for no limit of its own.
ALTER TABLE controls ADD COLUMN max_speed INTEGER;
