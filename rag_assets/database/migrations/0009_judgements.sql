-- What a judge model replied, by the hash of everything it was asked with: a report can be made again for nothing.
CREATE TABLE judgement (
    key text PRIMARY KEY,
    -- The model_name that answered: a fallback, where the one asked for failed.
    model text NOT NULL,
    reply text NOT NULL,
    finish_reason text NOT NULL,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    -- Null: no price is known.
    cost_usd double precision,
    at timestamptz NOT NULL DEFAULT now()
);

-- Documents a reply may quote: it is deleted with any of them.
CREATE TABLE judgement_source (
    key text NOT NULL REFERENCES judgement ON DELETE CASCADE,
    collection text NOT NULL,
    document text NOT NULL,
    PRIMARY KEY (key, collection, document)
);
CREATE INDEX judgement_source_document ON judgement_source (collection, document);
