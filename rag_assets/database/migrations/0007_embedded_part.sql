-- The words of the document whose vector the chunk has, where they are not all of its text (a sentence shown with its neighbours).
ALTER TABLE chunk ADD COLUMN embedded text;
