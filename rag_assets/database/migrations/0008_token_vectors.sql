-- Vectors of single tokens, for late interaction: beside the vector of their text, and gone with it.
CREATE TABLE token_vectors (
    embedder_fp text NOT NULL,
    text_hash text NOT NULL,
    vectors bytea NOT NULL,
    PRIMARY KEY (embedder_fp, text_hash),
    FOREIGN KEY (embedder_fp, text_hash) REFERENCES embedding ON DELETE CASCADE
);
-- Numbers of 4 bits don't compress; a value is read whole.
ALTER TABLE token_vectors ALTER COLUMN vectors SET STORAGE EXTERNAL;
