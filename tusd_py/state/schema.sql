-- Version 1. A later version is a further step in state/sqlite.py, never an edit of this file.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    created_at REAL NOT NULL,
    generation INTEGER NOT NULL,
    phase TEXT NOT NULL,
    upload_offset INTEGER NOT NULL,
    upload_length INTEGER,
    upload_metadata TEXT,
    changed_metadata TEXT,
    concat TEXT,
    parts TEXT,
    expires_at REAL,
    tail TEXT NOT NULL,
    synced_offset INTEGER NOT NULL,
    placement TEXT NOT NULL,
    target TEXT,
    path TEXT,
    released INTEGER NOT NULL,
    reply TEXT
) STRICT, WITHOUT ROWID;  -- one tree to write to instead of two

-- The sweeper looks for what has expired; a finished upload never does, so it is not in here.
CREATE INDEX uploads_by_expiry ON uploads (expires_at)
    WHERE phase NOT IN ('complete', 'finishing') OR concat = 'partial';

-- What recovery looks for at the start: few rows at any time.
CREATE INDEX uploads_finishing ON uploads (phase, id) WHERE phase = 'finishing';
CREATE INDEX uploads_unreleased ON uploads (id)
    WHERE phase IN ('terminated', 'expired') AND released = 0;

-- An unfinished final upload refers to its parts, which keeps them from being swept.
CREATE TABLE part_refs (
    part_id TEXT NOT NULL,
    final_id TEXT NOT NULL,
    PRIMARY KEY (part_id, final_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX part_refs_by_final ON part_refs (final_id);

CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    upload_id TEXT NOT NULL,
    phase TEXT NOT NULL,
    at REAL NOT NULL,
    upload_offset INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    retry_at REAL NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX outbox_waiting ON outbox (upload_id, number) WHERE dead = 0;
