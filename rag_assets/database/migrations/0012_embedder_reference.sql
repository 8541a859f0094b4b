-- What a served model once made of fixed texts: every run that embeds compares the server with it before it writes.
CREATE TABLE embedder_reference (
    embedder_fp text NOT NULL,
    position int NOT NULL,
    text text NOT NULL,
    vector vector NOT NULL,
    PRIMARY KEY (embedder_fp, position)
);

-- Whose vector a row has: its generation's table refuses that of any other model.
ALTER TABLE index_entry ADD COLUMN embedder_fp text;
DO $$
DECLARE
    g record;
BEGIN
    FOR g IN SELECT id, embedder_fp FROM generation WHERE to_regclass('index_entry_g' || id) IS NOT NULL LOOP
        -- NOT VALID: rows that are there keep their NULL; whatever is written from here on is checked.
        EXECUTE format(
            'ALTER TABLE index_entry_g%s ADD CONSTRAINT index_entry_embedder CHECK (embedder_fp IS NOT DISTINCT FROM %L) NOT VALID',
            g.id, g.embedder_fp);
    END LOOP;
END
$$;
