-- A file replaced by another of its size and modification time looks different by the time its entry was changed.
-- Every file looks different once after this, and is hashed; none is parsed again for that.
ALTER TABLE source_file RENAME COLUMN mtime_ns TO changed_ns;
