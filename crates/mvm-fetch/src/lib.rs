//! Registry client, OCI layouts and archives.
