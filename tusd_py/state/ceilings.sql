-- Bytes per second that the application allows an upload, however much more somebody wants for it.
ALTER TABLE controls ADD COLUMN ceiling INTEGER;
