//! What a case is: an image, why it is interesting, and what must come of it.

use std::fmt;
use std::io;

use super::expected::Tree;
use super::image::Image;
use super::kind::Kind;

type Build = Box<dyn Fn(&mut Image) -> io::Result<()> + Send + Sync>;

/// One image and what must come of it.
pub struct Case {
    /// Unique name in kebab case.
    pub name: &'static str,
    /// Group of cases that it belongs to.
    pub theme: &'static str,
    /// One line: the weakness that it stands for, or who makes such images.
    pub why: &'static str,
    /// Whether somebody means harm; else it is an odd image that is legal.
    pub is_hostile: bool,
    /// Writes the image.
    pub build: Build,
    /// What must come of it.
    pub outcome: Outcome,
    /// What umoci makes of the same image.
    pub umoci: Peer,
    /// What bsdtar makes of the only layer, where that tells something.
    pub bsdtar: Option<Peer>,
    /// What skopeo makes of the image when it copies it, where that tells something.
    pub skopeo: Option<Peer>,
    /// Further arguments of `mvmctl pull`.
    pub arguments: &'static [&'static str],
    /// Why the program under test does something else today; such a case is skipped, and listed.
    pub known: Option<&'static str>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.theme, self.name)
    }
}

/// What must come of an image.
pub enum Outcome {
    /// It is refused, and the message has the second text, which names the entry or document.
    Refused(Kind, &'static str),
    /// It becomes exactly this tree.
    Accepted(Box<dyn Fn() -> Tree + Send + Sync>),
}

/// What another program makes of the same image. Each is checked against the program where it is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// It refuses too, or makes the same tree.
    Same,
    /// It does something else, and why we don't.
    Differs(&'static str),
    /// It is not asked, and why.
    NotAsked(&'static str),
}

/// A case without an outcome.
pub struct Draft {
    name: &'static str,
    why: &'static str,
    is_hostile: bool,
    build: Build,
}

/// Begins a case that means harm.
pub fn hostile(
    name: &'static str,
    why: &'static str,
    build: impl Fn(&mut Image) -> io::Result<()> + Send + Sync + 'static,
) -> Draft {
    Draft { name, why, is_hostile: true, build: Box::new(build) }
}

/// Begins a case that is odd and legal.
pub fn oddity(
    name: &'static str,
    why: &'static str,
    build: impl Fn(&mut Image) -> io::Result<()> + Send + Sync + 'static,
) -> Draft {
    Draft { name, why, is_hostile: false, build: Box::new(build) }
}

impl Draft {
    /// The image is refused for this reason, by a message that has this text.
    pub fn refused(self, kind: Kind, names: &'static str) -> Case {
        self.with(Outcome::Refused(kind, names))
    }

    /// The image becomes exactly this tree.
    pub fn accepted(self, tree: impl Fn() -> Tree + Send + Sync + 'static) -> Case {
        self.with(Outcome::Accepted(Box::new(tree)))
    }

    fn with(self, outcome: Outcome) -> Case {
        let Self { name, why, is_hostile, build } = self;
        let (umoci, bsdtar, skopeo, arguments, known) = (Peer::Same, None, None, &[], None);
        Case { name, theme: "", why, is_hostile, build, outcome, umoci, bsdtar, skopeo, arguments, known }
    }
}

impl Case {
    /// Says what umoci makes of it.
    pub fn umoci(mut self, peer: Peer) -> Self {
        self.umoci = peer;
        self
    }

    /// Says what bsdtar makes of it.
    pub fn bsdtar(mut self, peer: Peer) -> Self {
        self.bsdtar = Some(peer);
        self
    }

    /// Says what skopeo makes of it when it copies it.
    pub fn skopeo(mut self, peer: Peer) -> Self {
        self.skopeo = Some(peer);
        self
    }

    /// Adds arguments of `mvmctl pull`.
    pub fn arguments(mut self, arguments: &'static [&'static str]) -> Self {
        self.arguments = arguments;
        self
    }

    /// Says why the program under test does something else today.
    pub fn known(mut self, why: &'static str) -> Self {
        self.known = Some(why);
        self
    }
}
