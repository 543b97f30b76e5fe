//! The rules that layers set: each restriction that a layer has is judged, and one that fails is enough.

mod surroundings;

use super::Policy;
use super::layer::{Layer, Restrictions};
use super::rules::{Claim, Failure, failure, names, time};
use super::units::{Mebibytes, Seconds};
use crate::admit::{Isolation, StorePathFacts};
use crate::plan::{RequiredIsolation, Source};
use crate::trust::TrustedKey;
use mvm_ref::nix::{NixPublicKey, verify_signature};
use mvm_ref::{Digest, ImageSource, Reference};
use std::fmt;
pub(super) use surroundings::{allowed_mounts, allowed_network};

type Judged = Result<String, Failure>;

/// Judges each layer that has a restriction; `free` is what is said if none has.
///
/// A failure names its layer where there are several.
fn judge<'p, T>(
    policy: &'p Policy,
    restriction: impl Fn(&'p Restrictions) -> Option<T>,
    free: &str,
    judge: impl Fn(T, &'p Layer) -> Judged,
) -> Judged {
    let mut passed: Vec<String> = Vec::new();
    for layer in policy.layers() {
        let Some(restriction) = restriction(layer.restrictions()) else { continue };
        match judge(restriction, layer) {
            Ok(why) if passed.contains(&why) => {}
            Ok(why) => passed.push(why),
            Err(mut failure) => {
                if policy.layers().len() > 1 {
                    failure.why = format!("{} (policy {})", failure.why, layer.name());
                }
                return Err(failure);
            }
        }
    }
    if passed.is_empty() { Ok(free.to_owned()) } else { Ok(passed.join("; ")) }
}

/// An image as it was asked for.
pub(super) struct Asked<'a> {
    text: &'a str,
    /// If it is one of a registry.
    reference: Option<Reference>,
    /// What the name was found to mean, if anybody was asked yet.
    manifest: Option<&'a Digest>,
    mutable_tag: bool,
    /// If it was built of a flake: whether that has a lock file.
    flake: Option<Locked>,
}

/// Whether the inputs of a flake are locked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Locked {
    Yes,
    No,
    /// Nobody has looked yet.
    Unknown,
}

impl<'a> Asked<'a> {
    /// Reads the name alone, before anybody was asked what it means.
    pub fn by_name(text: &'a str) -> Self {
        let source = text.parse::<ImageSource>().ok();
        let flake = matches!(source, Some(ImageSource::Flake(_))).then_some(Locked::Unknown);
        let reference = source.and_then(|source| source.reference().cloned());
        Self { text, reference, manifest: None, mutable_tag: false, flake }
    }

    pub fn in_plan(source: &'a Source) -> Self {
        let asked = Self { manifest: Some(source.manifest()), ..Self::by_name(source.requested().as_str()) };
        match source {
            Source::Oci { mutable_tag, .. } => Self { mutable_tag: *mutable_tag, flake: None, ..asked },
            // A name that was given to what was built is of no registry, whatever it looks like.
            Source::Flake { lock, .. } => {
                let flake = Some(if lock.is_some() { Locked::Yes } else { Locked::No });
                Self { reference: None, flake, ..asked }
            }
        }
    }

    fn repository(&self) -> Option<String> {
        let name = |reference: &Reference| format!("{}/{}", reference.registry(), reference.repository());
        self.reference.as_ref().map(name)
    }

    fn no_registry(&self) -> Judged {
        if self.flake.is_some() {
            return failure(
                format!("{:?} was built of a flake, and comes from no registry", self.text),
                "run an image of an allowed registry; a policy for builds restricts postures and signed-paths instead",
            );
        }
        failure(
            format!("the image {:?} comes from no registry", self.text),
            "push it to an allowed registry and run it from there",
        )
    }
}

fn listed<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

pub(super) fn release_key(policy: &Policy, claim: &Claim<'_>) -> Judged {
    let forbidden = |layer: &Restrictions| (layer.development_keys == Some(false)).then_some(());
    judge(policy, forbidden, "development keys may sign", |(), _| {
        let mut release = claim.signers.iter().filter(|key| !key.development).peekable();
        if release.peek().is_none() {
            let why = match claim.signers {
                [] => "no key that is not for development made a valid signature".to_owned(),
                signers => format!("signed with development keys only: {}", names(signers.iter())),
            };
            return failure(why, "sign the plan with a trusted key that is not marked as a development key");
        }
        Ok(format!("signed by {}", names(release)))
    })
}

pub(super) fn signer_threshold(policy: &Policy, claim: &Claim<'_>) -> Judged {
    let asked = |layer: &Restrictions| (layer.signers.is_some() || layer.threshold.is_some()).then_some(());
    judge(policy, asked, "one trusted key is enough", |(), layer| {
        let asked = layer.restrictions();
        let counts = |key: &&&TrustedKey| {
            let named = |signers: &std::collections::BTreeSet<_>| signers.contains(&super::Signer(key.id()));
            asked.signers.as_ref().is_none_or(named)
                && !(key.development && asked.development_keys == Some(false))
        };
        let signed: Vec<&&TrustedKey> = claim.signers.iter().filter(counts).collect();
        let needed = asked.threshold.map_or(1, std::num::NonZeroUsize::get);
        if signed.len() >= needed {
            return Ok(format!("{} of {needed} keys that count signed", signed.len()));
        }
        let absent = asked.signers.iter().flatten().map(|signer| signer.0);
        let absent: Vec<String> =
            absent.filter(|id| !signed.iter().any(|key| key.id() == *id)).map(|id| id.to_string()).collect();
        let why = format!("{} of {needed} keys that count signed: {}", signed.len(), {
            if signed.is_empty() { "none".to_owned() } else { names(signed.iter().copied()) }
        });
        let whose = if absent.is_empty() { "further trusted keys".to_owned() } else { absent.join(" or ") };
        failure(why, format!("have the plan signed with {whose}"))
    })
}

pub(super) fn validity_length(policy: &Policy, claim: &Claim<'_>) -> Judged {
    let validity = claim.plan.validity;
    let seconds = validity.not_after.saturating_sub(validity.not_before);
    let free = format!("the plan is valid for {seconds} seconds");
    judge(
        policy,
        |layer| layer.max_validity,
        &free,
        |Seconds(most), _| {
            if seconds > most {
                return failure(
                    format!("the plan is valid for {seconds} seconds, more than {most}"),
                    format!("make a plan that is valid for at most {} (--valid-for)", Seconds(most)),
                );
            }
            Ok(format!("the plan is valid for {seconds} of at most {most} seconds"))
        },
    )
}

pub(super) fn plan_age(policy: &Policy, claim: &Claim<'_>) -> Judged {
    let age = claim.facts.now.saturating_sub(claim.plan.validity.not_before);
    judge(
        policy,
        |layer| layer.max_plan_age,
        "plans may be of any age",
        |most, _| old("the plan", age, most, "make and sign a new plan"),
    )
}

fn old(what: &str, age: i64, Seconds(most): Seconds, remedy: &str) -> Judged {
    if age > most {
        return failure(format!("{what} is {age} seconds old, more than {most}"), remedy);
    }
    Ok(format!("{what} is {age} of at most {most} seconds old"))
}

pub(super) fn pinned_image(policy: &Policy, image: &Asked<'_>) -> Judged {
    if let Some(locked) = image.flake {
        return locked_flake(policy, image, locked);
    }
    let pinned = !image.mutable_tag && image.reference.as_ref().is_some_and(Reference::is_pinned);
    let digest = image.manifest.map_or_else(|| "sha256:…".to_owned(), ToString::to_string);
    let asked = format!("the image was asked for by digest, {digest}");
    let free = if pinned { asked.as_str() } else { "mutable tags may be used" };
    judge(
        policy,
        |layer| (layer.pinned_images == Some(true)).then_some(()),
        free,
        |(), _| {
            if pinned {
                return Ok(asked.clone());
            }
            failure(
                format!("the image was asked for by the mutable tag {:?}", image.text),
                format!("ask for it by digest: put @{digest} in place of the tag"),
            )
        },
    )
}

/// Judges a flake, whose inputs its lock file pins.
fn locked_flake(policy: &Policy, image: &Asked<'_>, locked: Locked) -> Judged {
    let asked = |layer: &Restrictions| (layer.pinned_images == Some(true)).then_some(());
    let free = match locked {
        Locked::Yes => "the flake's inputs are locked",
        Locked::No | Locked::Unknown => "inputs need not be locked",
    };
    judge(policy, asked, free, |(), _| match locked {
        Locked::Yes => Ok("the flake's inputs are locked".to_owned()),
        // Whoever builds looks at the lock file, and the plan says what was found.
        Locked::Unknown => Ok("the build tells whether the flake's inputs are locked".to_owned()),
        Locked::No => failure(
            format!(
                "the flake {:?} has no lock file, so that the same words may mean other inputs",
                image.text
            ),
            "have it made with --update-lock, keep it with the flake, and build again",
        ),
    })
}

pub(super) fn allowed_registry(policy: &Policy, image: &Asked<'_>) -> Judged {
    judge(
        policy,
        |layer| layer.registries.as_ref(),
        "any registry may be used",
        |allowed, _| {
            let Some(reference) = &image.reference else { return image.no_registry() };
            let registry = reference.registry();
            if allowed.iter().any(|pattern| pattern.fits(registry)) {
                return Ok(format!("the image comes from {registry}"));
            }
            failure(
                format!("the image comes from the registry {registry}"),
                format!("use an image of an allowed registry: {}", listed(allowed)),
            )
        },
    )
}

pub(super) fn allowed_repository(policy: &Policy, image: &Asked<'_>) -> Judged {
    judge(
        policy,
        |layer| layer.repositories.as_ref(),
        "any repository may be used",
        |allowed, _| {
            let Some(name) = image.repository() else { return image.no_registry() };
            if allowed.iter().any(|pattern| pattern.fits(&name)) {
                return Ok(format!("the image comes from {name}"));
            }
            failure(
                format!("the image comes from the repository {name}"),
                format!("use an image of an allowed repository: {}", listed(allowed)),
            )
        },
    )
}

pub(super) fn image_signature(policy: &Policy, claim: &Claim<'_>) -> Judged {
    let name = Asked::in_plan(&claim.plan.source).repository();
    let is_flake = matches!(claim.plan.source, Source::Flake { .. });
    let asked = |layer: &'_ Restrictions| {
        let covering = |signature: &&super::ImageSignature| signature.covers(name.as_deref());
        let keys: Vec<_> =
            layer.image_signature.iter().filter(covering).map(|one| one.key.fingerprint()).collect();
        (!keys.is_empty()).then_some(keys)
    };
    judge(policy, asked, "no signature of the image is asked for", |keys, _| {
        if is_flake {
            return failure(
                "what is built of a flake has no image signature",
                "leave out image-signature, or ask it of repositories only; signed-paths asks for signatures of store paths",
            );
        }
        let mut known = keys.iter().flatten();
        match known.find(|key| claim.facts.image_signatures.contains(key)) {
            Some(key) => Ok(format!("the image is signed with the key {key}")),
            None => failure(
                "no signature of the image was verified with a key that counts",
                format!(
                    "sign the image with the key {}, and pull it again, so that its signature is fetched and verified",
                    listed(keys.iter().flatten())
                ),
            ),
        }
    })
}

/// Judges the store paths of a build: each is signed with one of the keys, or its name follows from its content.
pub(super) fn signed_paths(policy: &Policy, claim: &Claim<'_>) -> Judged {
    let is_flake = matches!(claim.plan.source, Source::Flake { .. });
    let asked = |layer: &Restrictions| layer.signed_paths.clone();
    judge(policy, asked, "no signatures of store paths are asked for", |keys, _| {
        if !is_flake {
            return Ok("the image has no store paths that were built".to_owned());
        }
        let Some(paths) = claim.facts.store_paths else {
            return failure(
                "nothing says which store paths the image is made of",
                "build the flake here again",
            );
        };
        let unsigned =
            |path: &&StorePathFacts| !path.content_addressed && verify_signature(&path.info, &keys).is_none();
        let mut unsigned = paths.iter().filter(unsigned);
        match (unsigned.next(), unsigned.count()) {
            (None, _) => Ok(format!("all {} store paths are signed or content-addressed", paths.len())),
            (Some(first), more) => {
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                failure(
                    format!("{}{more} have no signature that counts", first.info.path),
                    format!(
                        "build where they are substituted from a cache that signs with {}, or sign them",
                        listed(keys.iter().map(NixPublicKey::name))
                    ),
                )
            }
        }
    })
}

pub(super) fn pull_age(policy: &Policy, claim: &Claim<'_>) -> Judged {
    judge(
        policy,
        |layer| layer.max_pull_age,
        "pulls may be of any age",
        |most, _| match claim.facts.pulled_at {
            Some(pulled) => {
                let age = claim.facts.now.saturating_sub(pulled);
                old("the last pull of the image", age, most, "pull the image again: run with --pull always")
            }
            None => failure("nothing says when the image was pulled", "pull the image again"),
        },
    )
}

pub(super) fn image_age(policy: &Policy, claim: &Claim<'_>) -> Judged {
    judge(
        policy,
        |layer| layer.max_image_age,
        "images may be of any age",
        |most, _| match claim.facts.created_at {
            Some(created) => old(
                &format!("the image, made {},", time(created)),
                claim.facts.now.saturating_sub(created),
                most,
                "use an image that was made later",
            ),
            None => failure("the image does not say when it was made", "use an image that says so"),
        },
    )
}

pub(super) fn allowed_posture(policy: &Policy, claim: &Claim<'_>) -> Judged {
    let posture = claim.plan.posture;
    judge(
        policy,
        |layer| layer.postures.as_ref(),
        "any posture may be used",
        |allowed, _| {
            if allowed.contains(&posture) {
                return Ok(format!("the root's posture is {posture}"));
            }
            failure(
                format!("the root's posture is {posture}"),
                format!("use a root of an allowed posture: {}", listed(allowed)),
            )
        },
    )
}

pub(super) fn hardware_isolation(policy: &Policy, claim: &Claim<'_>) -> Judged {
    let asked = |layer: &Restrictions| (layer.isolation == Some(RequiredIsolation::Kvm)).then_some(());
    let free = match claim.facts.isolation {
        Isolation::Kvm => "the machine runs under kvm",
        Isolation::Emulated => "emulation may be used",
    };
    judge(policy, asked, free, |(), _| match claim.facts.isolation {
        Isolation::Kvm => Ok("the machine runs under kvm".to_owned()),
        Isolation::Emulated => failure(
            "the machine would be emulated, which is not a security boundary",
            "run it on a host where KVM works",
        ),
    })
}

pub(super) fn required_confinement(policy: &Policy, claim: &Claim<'_>) -> Judged {
    let asked = |layer: &'_ Restrictions| -> Option<Vec<String>> {
        let asked: Vec<String> = layer.required_confinement.iter().cloned().collect();
        (!asked.is_empty()).then_some(asked)
    };
    judge(policy, asked, "no confinement is asked for", |asked, _| {
        let absent: Vec<String> =
            asked.iter().filter(|name| !claim.facts.confinement.contains(*name)).cloned().collect();
        if absent.is_empty() {
            return Ok(format!("the hypervisor is confined by {}", listed(asked)));
        }
        failure(
            format!("the hypervisor would not be confined by {}", listed(absent)),
            "run it on a host that offers this; mvmctl doctor says what is missing",
        )
    })
}

pub(super) fn max_cpus(policy: &Policy, claim: &Claim<'_>) -> Judged {
    let cpus = claim.plan.resources.cpus;
    let free = format!("{cpus} processors");
    judge(
        policy,
        |layer| layer.max_cpus,
        &free,
        |most, _| {
            if cpus > most {
                return failure(
                    format!("the plan asks for {cpus} processors, more than {most}"),
                    format!("ask for at most {most}: --cpus {most}"),
                );
            }
            Ok(format!("{cpus} of at most {most} processors"))
        },
    )
}

pub(super) fn max_memory(policy: &Policy, claim: &Claim<'_>) -> Judged {
    let asked = u64::from(claim.plan.resources.memory_mib);
    ceiling(policy, "memory", asked, |layer| layer.max_memory, "--memory")
}

pub(super) fn max_scratch(policy: &Policy, claim: &Claim<'_>) -> Judged {
    ceiling(policy, "scratch space", claim.plan.resources.scratch_mib, |layer| layer.max_scratch, "--scratch")
}

fn ceiling(
    policy: &Policy,
    what: &str,
    asked: u64,
    most: impl Fn(&Restrictions) -> Option<Mebibytes>,
    flag: &str,
) -> Judged {
    let free = format!("{} of {what}", Mebibytes(asked));
    judge(policy, most, &free, |most, _| {
        if asked > most.0 {
            return failure(
                format!("the plan asks for {} of {what}, more than {most}", Mebibytes(asked)),
                format!("ask for at most {most}: {flag} {most}"),
            );
        }
        Ok(format!("{} of at most {most} of {what}", Mebibytes(asked)))
    })
}

pub(super) fn non_root_user(policy: &Policy, claim: &Claim<'_>) -> Judged {
    let forbidden = |layer: &Restrictions| (layer.root_user == Some(false)).then_some(());
    judge(policy, forbidden, "the command may run as root", |(), _| {
        if let Some(service) = claim.plan.services.iter().find(|service| !service.pre_start.is_empty()) {
            let why = format!("service {:?} prepares its start as root", service.name);
            return failure(why, "leave out what runs before it starts");
        }
        let Some(process) = &claim.plan.process else {
            return Ok("there are only services, which never run as root".to_owned());
        };
        let asked = process.user.as_str();
        let user = asked.split(':').next().unwrap_or_default();
        let number =
            user.bytes().all(|byte| byte.is_ascii_digit()).then(|| user.parse::<u32>().ok()).flatten();
        let remedy = "name a user by a number above 0: --user 1000:1000";
        match number {
            Some(0) => failure("the command would run as root", remedy),
            Some(number) => Ok(format!("the command runs as user {number}")),
            None if user.is_empty() => failure("the command would run as root, as no user is named", remedy),
            None => failure(format!("the image decides whether user {user:?} is root"), remedy),
        }
    })
}
