-- What has happened to uploads, for those who listen: written down only while somebody does, or did
-- within the last hour, in the transaction in which it happens, whichever process that is.
CREATE TABLE listening (until REAL NOT NULL) STRICT;

CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    upload_id TEXT NOT NULL,
    principal TEXT,
    kind TEXT NOT NULL,
    at REAL NOT NULL
) STRICT;

CREATE TRIGGER event_of_insert AFTER INSERT ON uploads
WHEN EXISTS (SELECT 1 FROM listening)
BEGIN
    INSERT INTO events (upload_id, principal, kind, at)
    VALUES (NEW.id, NEW.principal, 'created', (julianday('now') - 2440587.5) * 86400.0);
    INSERT INTO events (upload_id, principal, kind, at)
    SELECT NEW.id, NEW.principal, 'finished', (julianday('now') - 2440587.5) * 86400.0
    WHERE NEW.phase = 'complete';
END;

CREATE TRIGGER event_of_phase AFTER UPDATE OF phase ON uploads
WHEN NEW.phase <> OLD.phase
    AND NEW.phase IN ('complete', 'failed', 'terminated', 'expired')
    AND EXISTS (SELECT 1 FROM listening)
BEGIN
    INSERT INTO events (upload_id, principal, kind, at)
    VALUES (
        NEW.id,
        NEW.principal,
        CASE NEW.phase WHEN 'complete' THEN 'finished' ELSE NEW.phase END,
        (julianday('now') - 2440587.5) * 86400.0
    );
END;
