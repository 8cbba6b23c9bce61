-- What somebody wants of an upload that is under way. It lies beside the records, as these belong
-- to whoever holds the lock of their upload, and to pause one takes no lock.
CREATE TABLE controls (
    upload_id TEXT PRIMARY KEY,
    paused INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER control_of_nothing AFTER DELETE ON uploads
BEGIN
    DELETE FROM controls WHERE upload_id = OLD.id;
END;

CREATE TRIGGER event_of_first_pause AFTER INSERT ON controls
WHEN NEW.paused AND EXISTS (SELECT 1 FROM listening)
BEGIN
    INSERT INTO events (upload_id, principal, kind, at)
    SELECT id, principal, 'paused', (julianday('now') - 2440587.5) * 86400.0
    FROM uploads WHERE id = NEW.upload_id;
END;

CREATE TRIGGER event_of_pause AFTER UPDATE OF paused ON controls
WHEN NEW.paused <> OLD.paused AND EXISTS (SELECT 1 FROM listening)
BEGIN
    INSERT INTO events (upload_id, principal, kind, at)
    SELECT
        id,
        principal,
        CASE WHEN NEW.paused THEN 'paused' ELSE 'resumed' END,
        (julianday('now') - 2440587.5) * 86400.0
    FROM uploads WHERE id = NEW.upload_id;
END;
