-- Uploads from the newest on: of everybody, and of one principal, or nobody's.
CREATE INDEX uploads_by_creation ON uploads (created_at);
CREATE INDEX uploads_by_principal ON uploads (principal, created_at);
