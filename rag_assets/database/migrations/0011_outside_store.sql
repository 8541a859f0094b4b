-- Which rows of a generation a store outside PostgreSQL may hold otherwise: written in the transaction that adds, rewrites or
-- deletes them, and deleted when the store has confirmed what they are.
CREATE TABLE store_outbox (
    generation_id bigint NOT NULL REFERENCES generation ON DELETE CASCADE,
    chunk_id text NOT NULL,
    -- Of the change: one that is made while an earlier one is being sent stays.
    version bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (generation_id, chunk_id)
);

-- Part of the names on a server that several installations may share.
CREATE TABLE installation (id text PRIMARY KEY DEFAULT substr(md5(gen_random_uuid()::text), 1, 8));
INSERT INTO installation DEFAULT VALUES;
