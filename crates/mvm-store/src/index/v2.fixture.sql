PRAGMA journal_mode=WAL;
-- Format 1 of a scope's index. Digests are 32 raw bytes, times are seconds since 1970.
CREATE TABLE resolutions (
    requested    TEXT NOT NULL,
    platform     TEXT NOT NULL,
    manifest     BLOB NOT NULL CHECK (length(manifest) = 32),
    index_digest BLOB CHECK (length(index_digest) = 32),
    resolved_at  INTEGER NOT NULL,
    PRIMARY KEY (requested, platform)
) STRICT, WITHOUT ROWID;
CREATE INDEX resolutions_by_manifest ON resolutions (manifest);

CREATE TABLE manifests (
    manifest  BLOB NOT NULL PRIMARY KEY CHECK (length(manifest) = 32),
    config    BLOB NOT NULL CHECK (length(config) = 32),
    platform  TEXT NOT NULL,
    root      BLOB NOT NULL CHECK (length(root) = 32),
    posture   TEXT NOT NULL,
    pulled_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX manifests_by_root ON manifests (root);

-- The chain of a manifest: one row a layer, lowest first.
CREATE TABLE layers (
    manifest BLOB NOT NULL REFERENCES manifests ON DELETE CASCADE,
    position INTEGER NOT NULL,
    diff_id  BLOB NOT NULL CHECK (length(diff_id) = 32),
    PRIMARY KEY (manifest, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX layers_by_diff_id ON layers (diff_id);

CREATE TABLE segments (
    diff_id     BLOB NOT NULL CHECK (length(diff_id) = 32),
    generation  INTEGER NOT NULL,
    digest      BLOB NOT NULL CHECK (length(digest) = 32),
    size        INTEGER NOT NULL,
    tar_size    INTEGER NOT NULL,
    blocks      INTEGER NOT NULL,
    tail_bytes  INTEGER NOT NULL,
    entries     INTEGER NOT NULL,
    index_bytes INTEGER NOT NULL,
    boot_id     TEXT NOT NULL,
    sealed      INTEGER NOT NULL,
    last_used   INTEGER NOT NULL,
    PRIMARY KEY (diff_id, generation)
) STRICT, WITHOUT ROWID;

CREATE TABLE images (
    root        BLOB NOT NULL PRIMARY KEY CHECK (length(root) = 32),
    generation  INTEGER NOT NULL,
    data_blocks INTEGER NOT NULL,
    hash_start  INTEGER NOT NULL,
    size        INTEGER NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Which image a chain was assembled into. Several chains may lead to one image.
CREATE TABLE chains (
    chain      BLOB NOT NULL CHECK (length(chain) = 32),
    generation INTEGER NOT NULL,
    root       BLOB NOT NULL REFERENCES images ON DELETE CASCADE,
    PRIMARY KEY (chain, generation)
) STRICT, WITHOUT ROWID;
CREATE INDEX chains_by_root ON chains (root);

-- pid, start_time, boot_id and pid_namespace name a process; all are NULL for a lease that outlives processes.
CREATE TABLE leases (
    root          BLOB NOT NULL CHECK (length(root) = 32),
    holder        TEXT NOT NULL,
    pid           INTEGER,
    start_time    INTEGER,
    boot_id       TEXT,
    pid_namespace TEXT,
    leased_at     INTEGER NOT NULL,
    PRIMARY KEY (root, holder)
) STRICT, WITHOUT ROWID;
-- Format 2: which unpack policy the layers of an image were checked under; empty for those before there was a choice.
ALTER TABLE images ADD COLUMN policy TEXT NOT NULL DEFAULT '';
PRAGMA user_version=2;
INSERT INTO resolutions VALUES ('docker.io/library/alpine:3.20', 'linux/arm64/v8', x'1111111111111111111111111111111111111111111111111111111111111111', NULL, 1700000000);
INSERT INTO manifests VALUES (x'1111111111111111111111111111111111111111111111111111111111111111', x'2222222222222222222222222222222222222222222222222222222222222222', 'linux/arm64/v8', x'3333333333333333333333333333333333333333333333333333333333333333', 'compatible', 1700000001);
INSERT INTO layers VALUES (x'1111111111111111111111111111111111111111111111111111111111111111', 0, x'4444444444444444444444444444444444444444444444444444444444444444');
INSERT INTO segments VALUES (x'4444444444444444444444444444444444444444444444444444444444444444', 1, x'5555555555555555555555555555555555555555555555555555555555555555', 100, 200, 3, 4, 5, 6, 'boot', 1, 1700000002);
INSERT INTO images VALUES (x'3333333333333333333333333333333333333333333333333333333333333333', 1, 7, 28672, 36864, 1700000003, 'entries=5');
INSERT INTO chains VALUES (x'6666666666666666666666666666666666666666666666666666666666666666', 1, x'3333333333333333333333333333333333333333333333333333333333333333');
INSERT INTO leases VALUES (x'3333333333333333333333333333333333333333333333333333333333333333', 'vm:web', NULL, NULL, NULL, NULL, 1700000004);
