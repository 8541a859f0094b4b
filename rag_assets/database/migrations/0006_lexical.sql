-- The lexical index of a generation: segments that are only ever added, or replaced by one that merges them. A write adds one
-- segment, with the rows it adds and the rows of older segments that it deletes; nothing is updated, so that writers of
-- different shards never wait for each other.
CREATE TABLE lexical_segment (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    generation_id bigint NOT NULL REFERENCES generation ON DELETE CASCADE,
    -- Fingerprint of how its texts were analysed.
    analyzer text NOT NULL,
    row_count int NOT NULL,
    -- Arrays, little-endian: of its rows the chunk id (16 bytes), the length in terms (uint32) and the language (uint8); and
    -- the deleted rows of older segments (segment int32, row int32).
    chunk_ids bytea NOT NULL,
    lengths bytea NOT NULL,
    languages bytea NOT NULL,
    tombstones bytea NOT NULL
);
ALTER TABLE lexical_segment
    ALTER COLUMN chunk_ids SET STORAGE EXTERNAL, ALTER COLUMN lengths SET STORAGE EXTERNAL,
    ALTER COLUMN languages SET STORAGE EXTERNAL, ALTER COLUMN tombstones SET STORAGE EXTERNAL;
CREATE INDEX lexical_segment_generation ON lexical_segment (generation_id);

-- Posting lists (stores/lexical_codec.py). Every generation has a table of its own like this one, so that it is dropped at once.
CREATE TABLE lexical_posting (
    segment int NOT NULL,
    term text COLLATE "C" NOT NULL,
    postings bytea NOT NULL,
    PRIMARY KEY (term, segment)
);
ALTER TABLE lexical_posting ALTER COLUMN postings SET STORAGE EXTERNAL;
CREATE INDEX lexical_posting_segment ON lexical_posting (segment);
