//! Host-to-guest protocol: framing, multiplexed streams, messages and the guest document; sans I/O.
