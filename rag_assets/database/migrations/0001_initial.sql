-- Everything lives in the schema `rag`; Dagster's own tables live in the schema `dagster` of the same database.
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE collection (
    name text PRIMARY KEY,
    live_generation bigint,
    -- Bumped by every promotion and rollback: the fencing token of the live pointer.
    version bigint NOT NULL DEFAULT 0
);

CREATE TABLE shard (
    collection text NOT NULL REFERENCES collection ON DELETE CASCADE,
    shards int NOT NULL,
    shard int NOT NULL,
    -- Bumped by every write of the shard: a writer that read an older version writes nothing.
    version bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (collection, shards, shard)
);

-- The ledger: one row per file ever seen and not deleted, with what became of it.
CREATE TABLE source_file (
    doc_id text PRIMARY KEY,
    collection text NOT NULL REFERENCES collection ON DELETE CASCADE,
    -- 16 bits of doc_id; a shard is bucket % n, so changing n moves no rows.
    bucket int NOT NULL,
    path bytea NOT NULL,
    uri text NOT NULL,
    size bigint NOT NULL,
    mtime_ns bigint NOT NULL,
    content_hash text,
    state text NOT NULL CHECK (state IN ('parsed', 'quarantined')),
    reason text,
    -- The parser that produced this outcome: another parser tries a quarantined file again.
    parser_fp text NOT NULL
);
CREATE INDEX source_file_collection ON source_file (collection, bucket);

CREATE TABLE document (
    doc_id text PRIMARY KEY REFERENCES source_file ON DELETE CASCADE,
    collection text NOT NULL,
    bucket int NOT NULL,
    content_hash text NOT NULL,
    parser_fp text NOT NULL,
    title text NOT NULL,
    elements jsonb NOT NULL,
    metadata jsonb NOT NULL,
    -- Hash of title and elements: what chunks are cut from.
    body_hash text NOT NULL,
    -- Hash of everything a chunk's row shows, metadata and uri included.
    document_hash text NOT NULL
);
CREATE INDEX document_content ON document (content_hash, parser_fp);
CREATE INDEX document_collection ON document (collection, bucket);

-- Which version of a document its chunk rows were cut from, per chunker.
CREATE TABLE chunked (
    chunker_fp text NOT NULL,
    doc_id text NOT NULL,
    collection text NOT NULL,
    bucket int NOT NULL,
    document_hash text NOT NULL,
    PRIMARY KEY (chunker_fp, doc_id)
);

CREATE TABLE chunk (
    chunker_fp text NOT NULL,
    chunk_id text NOT NULL,
    doc_id text NOT NULL,
    position int NOT NULL,
    text_hash text NOT NULL,
    text text NOT NULL,
    context text NOT NULL,
    start_offset int NOT NULL,
    end_offset int NOT NULL,
    headings jsonb NOT NULL,
    page int,
    kinds jsonb NOT NULL,
    tokens int NOT NULL,
    PRIMARY KEY (chunker_fp, chunk_id),
    FOREIGN KEY (chunker_fp, doc_id) REFERENCES chunked ON DELETE CASCADE
);
CREATE INDEX chunk_document ON chunk (chunker_fp, doc_id);
CREATE INDEX chunk_text ON chunk (text_hash);

-- Both the cache and the data: a text is embedded once per model, whatever documents it stands in.
CREATE TABLE embedding (
    embedder_fp text NOT NULL,
    text_hash text NOT NULL,
    vector vector NOT NULL CHECK (vector_norm(vector) > 0.99 AND vector_norm(vector) < 1.01),
    PRIMARY KEY (embedder_fp, text_hash)
);
ALTER TABLE embedding ALTER COLUMN vector SET STORAGE PLAIN;

CREATE TABLE generation (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection text NOT NULL REFERENCES collection ON DELETE CASCADE,
    sequence int NOT NULL,
    chunker_fp text NOT NULL,
    embedder_fp text NOT NULL,
    index_fp text NOT NULL,
    -- The settings behind the fingerprints, so that a retained generation can be searched and evaluated again.
    config jsonb NOT NULL,
    dimension int NOT NULL,
    state text NOT NULL CHECK (state IN ('building', 'ready', 'live', 'retired', 'refused', 'withdrawn')),
    reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    promoted_at timestamptz,
    UNIQUE (collection, sequence)
);
CREATE UNIQUE INDEX generation_one_live ON generation (collection) WHERE state = 'live';
CREATE UNIQUE INDEX generation_one_building ON generation (collection, chunker_fp, embedder_fp, index_fp)
    WHERE state IN ('building', 'ready', 'refused', 'withdrawn');
ALTER TABLE collection ADD FOREIGN KEY (live_generation) REFERENCES generation;

-- Which version of a document a generation holds.
CREATE TABLE indexed (
    generation_id bigint NOT NULL REFERENCES generation ON DELETE CASCADE,
    doc_id text NOT NULL,
    bucket int NOT NULL,
    document_hash text NOT NULL,
    PRIMARY KEY (generation_id, doc_id)
);

CREATE TABLE index_entry (
    generation_id bigint NOT NULL,
    chunk_id text NOT NULL,
    doc_id text NOT NULL,
    text_hash text NOT NULL,
    text text NOT NULL,
    payload jsonb NOT NULL,
    embedding halfvec NOT NULL,
    PRIMARY KEY (generation_id, chunk_id)
) PARTITION BY LIST (generation_id);
CREATE INDEX index_entry_document ON index_entry (generation_id, doc_id);

CREATE TABLE promotion (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection text NOT NULL REFERENCES collection ON DELETE CASCADE,
    from_generation bigint,
    to_generation bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    who text NOT NULL,
    reason text NOT NULL
);

CREATE TABLE evaluation_run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection text NOT NULL REFERENCES collection ON DELETE CASCADE,
    generation_id bigint NOT NULL REFERENCES generation ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT now(),
    -- Hash of the generation's rows and the questions: the same key means the same scores.
    subject_hash text NOT NULL,
    verdict text,
    result jsonb NOT NULL,
    report text
);
CREATE INDEX evaluation_run_generation ON evaluation_run (generation_id, at);

-- What the last listing could not use: unsupported, excluded, unreadable. Replaced as a whole by each listing.
CREATE TABLE listing_problem (
    collection text NOT NULL REFERENCES collection ON DELETE CASCADE,
    path bytea NOT NULL,
    uri text NOT NULL,
    reason text NOT NULL,
    unreadable boolean NOT NULL,
    PRIMARY KEY (collection, path)
);

-- The last measured speed of each model on this installation, for estimates only.
CREATE TABLE throughput (
    embedder_fp text PRIMARY KEY,
    tokens_per_second double precision NOT NULL
);
