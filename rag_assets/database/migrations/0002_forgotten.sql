-- Documents a person had removed: kept out of the index though their file may still be in the source.
CREATE TABLE forgotten (
    doc_id text PRIMARY KEY,
    collection text NOT NULL REFERENCES collection ON DELETE CASCADE,
    uri text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
