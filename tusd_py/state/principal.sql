-- Whose an upload is; NULL for nobody's.
ALTER TABLE uploads ADD COLUMN principal TEXT;
