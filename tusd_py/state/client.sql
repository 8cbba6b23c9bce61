-- The client that made an upload, where a limit holds for each; NULL where there is a principal.
ALTER TABLE uploads ADD COLUMN client TEXT;
