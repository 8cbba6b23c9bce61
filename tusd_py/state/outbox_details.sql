-- What is told of an upload beside its offset and its metadata, as JSON.
ALTER TABLE outbox ADD COLUMN details TEXT NOT NULL DEFAULT '{}';
