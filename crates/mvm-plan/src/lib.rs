//! Execution plan, canonical encoding, DSSE, admission policy and the audit chain.
