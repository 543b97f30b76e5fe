use super::*;
use mvm_plan::plan::{
    Initramfs, Kernel, Network, Posture, Process as PlanProcess, RequiredIsolation, Resources,
    Root as PlanRoot, Schema as PlanSchema, Source, Validity,
};
use mvm_plan::signal::Signal;
use mvm_plan::{Facts, Isolation, LaunchNonce, Policy, SigningKey, TrustStore, TrustedKey, admit, sign};
use mvm_ref::{Digest, Platform, ScopeName};
use std::collections::BTreeSet;

pub(crate) fn plan() -> Plan {
    let digest = |byte| Digest::from_sha256([byte; 32]);
    Plan {
        schema: PlanSchema::V1,
        workload: "web".parse().unwrap(),
        scope: ScopeName::default(),
        posture: Posture::Compatible,
        source: Source::Oci {
            requested: "debian:12".parse().unwrap(),
            manifest: digest(0x11),
            config: digest(0x22),
            platform: Platform::new("linux", "amd64", None),
            mutable_tag: true,
        },
        root: PlanRoot {
            root_hash: digest(0x33),
            generation: 1,
            data_blocks: 3,
            hash_start: 12_288,
            size: 20_480,
            fs: FileSystem::Erofs,
        },
        kernel: Kernel { digest: digest(0x44), version: "6.1.0".to_owned(), record: None },
        initramfs: Initramfs { digest: digest(0x55) },
        process: Some(PlanProcess {
            argv: vec!["/bin/sh".to_owned()],
            env: vec!["PATH=/bin".to_owned()],
            working_dir: "/srv".to_owned(),
            user: "1000".to_owned(),
            stop_signal: "SIGINT".parse::<Signal>().unwrap(),
            tty: true,
            stdin: false,
        }),
        services: Vec::new(),
        health_checks: Vec::new(),
        users: Vec::new(),
        service_group: None,
        writable_store: None,
        mounts: Vec::new(),
        secrets: Vec::new(),
        hostname: "web".to_owned(),
        resources: Resources { cpus: 1, memory_mib: 256, scratch_mib: 64, scratch: Scratch::Disk },
        network: Network::None,
        ports: Vec::new(),
        isolation: RequiredIsolation::Any,
        validity: Validity { not_before: 0, not_after: 1000 },
        single_use: false,
    }
}

/// Signs and admits `plan` as a development host without KVM would.
pub(crate) fn admitted(plan: Plan) -> AdmittedPlan {
    let key = SigningKey::from_seed(&[7; 32]);
    let trusted = TrustedKey { name: "test".to_owned(), key: key.public_key(), development: true };
    let trust = TrustStore::new(vec![trusted]).unwrap();
    let (scope, confinement) = (plan.scope.clone(), BTreeSet::new());
    let facts = Facts {
        now: 500,
        isolation: Isolation::Emulated,
        generations: &[1],
        scope: &scope,
        confinement: &confinement,
        image_signatures: &[],
        store_paths: None,
        pulled_at: None,
        created_at: None,
        nonce: LaunchNonce::from_bytes([1; 16]),
    };
    admit(&sign(plan, &[&key]).unwrap(), &trust, &Policy::development(), &facts).unwrap()
}

#[test]
fn the_document_is_the_plans() {
    let mut plan = plan();
    let expected = GuestDocument {
        schema: Schema::V1,
        hostname: "web".to_owned(),
        roots: vec![Root {
            name: "root".to_owned(),
            disk: "root".to_owned(),
            filesystem: Filesystem::Erofs,
            verity: Verity {
                root_hash: Hex::new([0x33; 32]),
                salt: Hex::new([0x66; 32]),
                data_blocks: 3,
                hash_start_block: 3,
                algorithm: HashAlgorithm::Sha256,
                block_size: 4096,
            },
            overlay: Overlay::Disk { serial: "scratch".to_owned() },
        }],
        processes: vec![Process {
            name: "main".to_owned(),
            root: "root".to_owned(),
            argv: vec!["/bin/sh".to_owned()],
            env: vec!["PATH=/bin".to_owned()],
            working_dir: "/srv".to_owned(),
            user: "1000".to_owned(),
            stop_signal: 2,
            terminal: true,
        }],
        services: vec![],
        health_checks: vec![],
        users: vec![],
        service_group: None,
        writable_store: None,
        mounts: vec![],
        secrets: vec![],
        interface: None,
    };
    let document = guest_document(&admitted(plan.clone()), &[0x66; 32]);
    assert_eq!(document, expected);
    document.validate().unwrap();

    let verity = expected.roots[0].verity.clone();
    let source = plan::MountSource::Image { root: plan.root };
    plan.mounts = vec![plan::Mount { target: "/src".to_owned(), source, read_only: true }];
    let document = guest_document(&admitted(plan.clone()), &[0x66; 32]);
    let source = MountSource::Image { serial: "image-0".to_owned(), filesystem: Filesystem::Erofs, verity };
    assert_eq!(document.mounts, [Mount { target: "/src".to_owned(), source, read_only: true }]);
    document.validate().unwrap();

    let nix = format!("/nix/store/{}-nix", "a".repeat(32));
    let source = plan::MountSource::Volume { name: "store".parse().unwrap() };
    plan.mounts = vec![plan::Mount { target: "/nix".to_owned(), source, read_only: false }];
    let document = guest_document(&admitted(plan.clone()), &[0x66; 32]);
    assert_eq!(document.mounts[0].source, MountSource::Volume { serial: "volume-0".to_owned() });
    plan.writable_store = Some(nix.parse().unwrap());
    let document = guest_document(&admitted(plan.clone()), &[0x66; 32]);
    assert_eq!(document.mounts[0].source, MountSource::Overlay { serial: "volume-0".to_owned() });
    assert_eq!(document.writable_store, Some(format!("{nix}/bin/nix-store")));
    document.validate().unwrap();

    plan.resources.scratch = Scratch::Tmpfs;
    let document = guest_document(&admitted(plan), &[0x66; 32]);
    assert_eq!(document.roots[0].overlay, Overlay::Tmpfs { size_mib: 64 });
}
