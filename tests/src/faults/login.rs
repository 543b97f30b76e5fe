//! Who is let in, and how those who aren't are told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::http::{Reply, Request};
use super::registry::error;

/// The only user's name.
pub const USER: &str = "user";
/// The only user's password.
pub const PASSWORD: &str = "p4ssw0rd-of-user";
/// Both as the value of an Authorization header.
pub const BASIC: &str = "Basic dXNlcjpwNHNzdzByZC1vZi11c2Vy";

/// A registry's way to let users in.
pub struct Login {
    challenges: Vec<String>,
    /// Whether the name and password are taken where the registry itself is asked.
    takes_password: bool,
    /// Whether a token is given to nobody but the user.
    tokens_for_user: bool,
    /// How many requests each token is good for.
    uses: usize,
    issued: AtomicUsize,
    left: Mutex<HashMap<String, usize>>,
}

impl Login {
    /// Takes name and password with every request.
    pub fn basic() -> Self {
        Self { takes_password: true, ..Self::token("Basic realm=\"registry\"") }
    }

    /// Takes tokens, which anyone gets; `challenge` says where.
    pub fn token(challenge: impl Into<String>) -> Self {
        Self {
            challenges: vec![challenge.into()],
            takes_password: false,
            tokens_for_user: false,
            uses: usize::MAX,
            issued: AtomicUsize::new(0),
            left: Mutex::default(),
        }
    }

    /// Makes the challenge that names a token server.
    pub fn bearer(realm: &str) -> String {
        format!("Bearer realm=\"{realm}\",service=\"registry\",scope=\"repository:team/app:pull\"")
    }

    /// Gives tokens to the user only.
    #[must_use]
    pub fn for_user(self) -> Self {
        Self { tokens_for_user: true, ..self }
    }

    /// Takes name and password too.
    #[must_use]
    pub fn or_password(self) -> Self {
        Self { takes_password: true, ..self }
    }

    /// Lets each token be used for so many requests.
    #[must_use]
    pub fn uses(self, uses: usize) -> Self {
        Self { uses, ..self }
    }

    /// Adds another challenge in a header of its own.
    #[must_use]
    pub fn also(mut self, challenge: impl Into<String>) -> Self {
        self.challenges.push(challenge.into());
        self
    }

    /// Returns the answer to those who are not let in.
    pub(super) fn check(&self, request: &Request) -> Option<Reply> {
        let shown = request.header("authorization").unwrap_or_default();
        if self.takes_password && shown == BASIC {
            return None;
        }
        if let Some(token) = shown.strip_prefix("Bearer ") {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(uses) = left.get_mut(token).filter(|uses| **uses > 0) {
                *uses -= 1;
                return None;
            }
        }
        let mut reply = error(401, "UNAUTHORIZED");
        for challenge in &self.challenges {
            reply.headers.push(("WWW-Authenticate".to_owned(), challenge.clone()));
        }
        Some(reply)
    }

    /// Answers a request for a token.
    pub(super) fn issue(&self, request: &Request) -> Reply {
        if self.tokens_for_user && request.header("authorization") != Some(BASIC) {
            return error(401, "UNAUTHORIZED");
        }
        let token = format!("token-{}", self.issued.fetch_add(1, Ordering::SeqCst));
        self.left.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone(), self.uses);
        Reply::new(200, "application/json", format!(r#"{{"token":"{token}","expires_in":300}}"#))
    }
}
