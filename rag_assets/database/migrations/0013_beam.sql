-- How wide the graph of a generation must be searched for its recall to meet the floors, as its last evaluation measured;
-- NULL: `index.ef_search` is enough.
ALTER TABLE generation ADD COLUMN beam int CHECK (beam BETWEEN 1 AND 1000);
