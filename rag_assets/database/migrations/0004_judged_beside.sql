-- What was live when a generation was judged: it may replace that and nothing else. NULL: nothing was.
ALTER TABLE evaluation_run ADD COLUMN judged_beside bigint;
