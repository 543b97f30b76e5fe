-- Format 3: the images that stay though no name leads to them, and what was set for the scope.
CREATE TABLE pins (
    manifest  BLOB NOT NULL PRIMARY KEY CHECK (length(manifest) = 32),
    pinned_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `quota`: bytes of disk that the scope may hold.
CREATE TABLE settings (
    name  TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
