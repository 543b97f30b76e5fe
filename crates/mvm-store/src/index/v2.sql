-- Format 2: which unpack policy the layers of an image were checked under; empty for those before there was a choice.
ALTER TABLE images ADD COLUMN policy TEXT NOT NULL DEFAULT '';
