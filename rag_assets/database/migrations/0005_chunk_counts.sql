-- How many chunks a document was cut into: rows deleted by hand are missed. Null: cut before this was noted.
ALTER TABLE chunked ADD COLUMN chunks int;
