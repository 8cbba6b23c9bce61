-- What each new record costs. Most are nobody's: those have one entry for the listing where they
-- had two. And the names of several phases in a WHEN, each time a table of their own, are two here.
DROP INDEX uploads_by_creation;
DROP INDEX uploads_by_principal;
CREATE INDEX uploads_of_nobody ON uploads (created_at) WHERE principal IS NULL;
CREATE INDEX uploads_of_somebody ON uploads (created_at) WHERE principal IS NOT NULL;
CREATE INDEX uploads_of_principal ON uploads (principal, created_at) WHERE principal IS NOT NULL;

DROP TRIGGER event_of_phase;
CREATE TRIGGER event_of_phase AFTER UPDATE OF phase ON uploads
WHEN NEW.phase <> OLD.phase
    AND NEW.phase NOT IN ('receiving', 'finishing')
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
