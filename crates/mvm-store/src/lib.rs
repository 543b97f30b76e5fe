//! The local store: segments, images, kernels; scopes, leases, collection.
