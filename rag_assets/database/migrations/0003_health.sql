-- A forgotten document that was renamed is known by its content.
ALTER TABLE forgotten ADD COLUMN content_hash text;

-- How far the HNSW graph has drifted from the one that was built: rows at the build, rows written or deleted since.
ALTER TABLE generation ADD COLUMN built_rows bigint NOT NULL DEFAULT 0;
ALTER TABLE generation ADD COLUMN churned_rows bigint NOT NULL DEFAULT 0;
-- Begun beside a live generation of the same key, because that one's health asked for it.
ALTER TABLE generation ADD COLUMN rebuild boolean NOT NULL DEFAULT false;
