//! Signatures of images as cosign makes them, made here by openssl and put beside images of a real registry.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::{Output, Program};
use mvm_tests::registry::Registry;
use mvm_tests::sandbox::Sandbox;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{BUSYBOX, Case, Outcome, SKOPEO, UMOCI, ensure, ensure_eq};

const OPENSSL: Need = Need::Program("openssl", "openssl");
const SIGNED: &[Need] = &[Need::Mvmctl, Need::Registry, UMOCI, SKOPEO, BUSYBOX, OPENSSL];

pub const CASES: &[Case] = &[
    Case { name: "signatures::under_the_tag", needs: SIGNED, run: under_the_tag },
    Case { name: "signatures::bundles_among_the_referrers", needs: SIGNED, run: bundles },
    Case { name: "signatures::given_by_hand", needs: SIGNED, run: by_hand },
    Case { name: "signatures::bad_keys_and_names", needs: SIGNED, run: bad_keys },
    Case {
        name: "signatures::run_only_what_is_signed",
        needs: &[Need::Mvmctl, Need::Guest, Need::Registry, UMOCI, SKOPEO, BUSYBOX, OPENSSL],
        run: run_signed,
    },
    Case {
        name: "signatures::asked_for_by_policy",
        needs: &[Need::Mvmctl, Need::Guest, Need::Registry, UMOCI, SKOPEO, BUSYBOX, OPENSSL],
        run: policy,
    },
];

type Failure = libtest_mimic::Failed;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// A registry with an image, and keys to sign it.
pub struct Stage {
    pub sandbox: Sandbox,
    registry: Registry,
    pub image: String,
    /// The hex digest of the image's manifest.
    pub digest: String,
}

impl Stage {
    pub fn new() -> Result<Self, Failure> {
        let (sandbox, registry) = (Sandbox::new()?, Registry::start()?);
        let image = registry.push(&fixtures::busybox()?, "team/app:1", &[])?;
        let index: Value = serde_json::from_slice(&fs::read(fixtures::busybox()?.join("index.json"))?)?;
        let digest = index["manifests"][0]["digest"].as_str().unwrap_or_default();
        let digest = digest.strip_prefix("sha256:").unwrap_or_default().to_owned();
        for (name, options) in [
            ("cosign", &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..]),
            ("other", &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
            ("ed", &["ed25519"]),
            ("rsa", &["RSA"]),
        ] {
            let key = format!("{name}.key");
            openssl(sandbox.path(), &[&["genpkey", "-out", &key, "-algorithm"], options].concat())?;
            openssl(sandbox.path(), &["pkey", "-in", &key, "-pubout", "-out", &format!("{name}.pub")])?;
        }
        Ok(Self { sandbox, registry, image, digest })
    }

    fn sign(&self, key: &str, message: &[u8]) -> Result<String, Failure> {
        fs::write(self.sandbox.path().join("message"), message)?;
        let key_file = format!("{key}.key");
        let signature = match key {
            "ed" => openssl(
                self.sandbox.path(),
                &["pkeyutl", "-sign", "-inkey", &key_file, "-rawin", "-in", "message"],
            )?,
            _ => openssl(self.sandbox.path(), &["dgst", "-sha256", "-sign", &key_file, "message"])?,
        };
        Ok(STANDARD.encode(signature))
    }

    /// The payload that cosign signs, for a repository of this registry and a digest.
    pub fn payload(&self, repository: &str, digest: &str) -> String {
        json!({
            "critical": {
                "identity": {"docker-reference": format!("{}/{repository}", self.registry.address())},
                "image": {"docker-manifest-digest": format!("sha256:{digest}")},
                "type": "cosign container image signature",
            },
            "optional": null,
        })
        .to_string()
    }

    /// Puts signatures under the tag that cosign gives them: payload, and who signs it.
    pub fn attach(&self, signatures: &[(String, &str)]) -> Outcome {
        let mut layers = Vec::new();
        for (payload, key) in signatures {
            let mut layer = self.blob(SIMPLE, payload.as_bytes())?;
            let signature = self.sign(key, payload.as_bytes())?;
            layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
            layers.push(layer);
        }
        let config = self.blob("application/vnd.oci.image.config.v1+json", b"{}")?;
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.manifest(&format!("sha256-{}.sig", self.digest), MANIFEST, &manifest)?;
        Ok(())
    }

    /// A bundle with an in-toto statement about a digest.
    fn bundle(&self, key: &str, predicate: &str, digest: &str) -> Result<String, Failure> {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "", "digest": {"sha256": digest}}],
            "predicateType": predicate,
            "predicate": {},
        })
        .to_string();
        let kind = "application/vnd.in-toto+json";
        let signed = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
        let envelope = json!({
            "payload": STANDARD.encode(&statement),
            "payloadType": kind,
            "signatures": [{"sig": self.sign(key, signed.as_bytes())?}],
        });
        let material = json!({"publicKey": {"hint": "ignored"}, "tlogEntries": []});
        Ok(json!({"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope})
            .to_string())
    }

    /// Puts a bundle beside the image, in the list that clients keep for registries without referrers.
    fn refer(&self, bundle: &str) -> Outcome {
        let layer = self.blob(BUNDLE, bundle.as_bytes())?;
        let config = self.blob("application/vnd.oci.empty.v1+json", b"{}")?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": BUNDLE, "config": config, "layers": [layer],
            "subject": {"mediaType": MANIFEST, "digest": format!("sha256:{}", self.digest), "size": 1},
        });
        let mut entry = self.manifest("", MANIFEST, &manifest)?;
        entry["artifactType"] = json!(BUNDLE);
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        self.manifest(&format!("sha256-{}", self.digest), INDEX, &index)?;
        Ok(())
    }

    fn blob(&self, kind: &str, bytes: &[u8]) -> Result<Value, Failure> {
        let digest = sha256(bytes);
        let begun = self.http("POST", "/v2/team/app/blobs/uploads/", &[], b"")?;
        let location = begun.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap_or_default();
        let path = location.split_once(&self.registry.address()).map_or(location, |(_, path)| path);
        let join = if path.contains('?') { '&' } else { '?' };
        let put = format!("{path}{join}digest=sha256:{digest}");
        let done = self.http("PUT", &put, &["Content-Type: application/octet-stream"], bytes)?;
        ensure!(done.starts_with("HTTP/1.1 201"), "a blob was not taken: {done}");
        Ok(json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()}))
    }

    fn manifest(&self, name: &str, kind: &str, document: &Value) -> Result<Value, Failure> {
        let bytes = document.to_string().into_bytes();
        let digest = format!("sha256:{}", sha256(&bytes));
        let path = format!("/v2/team/app/manifests/{}", if name.is_empty() { &digest } else { name });
        let done = self.http("PUT", &path, &[&format!("Content-Type: {kind}")], &bytes)?;
        ensure!(done.starts_with("HTTP/1.1 201"), "a manifest was not taken: {done}");
        Ok(json!({"mediaType": kind, "digest": digest, "size": bytes.len()}))
    }

    fn http(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Result<String, Failure> {
        let mut stream = TcpStream::connect(self.registry.address())?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.registry.address());
        for header in headers {
            head += &format!("{header}\r\n");
        }
        head += &format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body].concat())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Verifies the image, with more arguments.
    fn verify(&self, arguments: &[&str]) -> Result<Output, Failure> {
        let verify = self.sandbox.mvmctl(["image", "verify-signature"]).directory(self.sandbox.path());
        Ok(verify.args(arguments).arg(&self.image).run()?)
    }

    fn pull(&self, key: &str) -> Result<Output, Failure> {
        let pull = self.sandbox.mvmctl(["pull", "--verify-key", key]).directory(self.sandbox.path());
        Ok(pull.arg(&self.image).run()?)
    }

    fn refused(&self, key: &str, words: &str) -> Outcome {
        let refused = self.pull(key)?.exits(4)?.err();
        ensure!(refused.contains(words), "expected {words:?}: {refused}");
        ensure_eq!(self.sandbox.json(["image", "ls", "--json"])?, json!([]));
        Ok(())
    }
}

fn openssl(directory: &Path, arguments: &[&str]) -> Result<Vec<u8>, Failure> {
    Ok(Program::new("openssl").args(arguments).directory(directory).run()?.ok()?.stdout)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn under_the_tag() -> Outcome {
    let stage = Stage::new()?;
    let good = stage.payload("team/app", &stage.digest);
    stage.refused("cosign.pub", "has no signature of it")?;
    stage.attach(&[(good.clone(), "other")])?;
    stage.refused("cosign.pub", "none of 1 signatures found is one by key sha256:")?;
    let elsewhere = "9".repeat(64);
    stage.attach(&[(good.clone(), "other"), (stage.payload("team/app", &elsewhere), "cosign")])?;
    stage.refused("cosign.pub", &format!("the signature is of sha256:{elsewhere}, not of this image"))?;
    stage.attach(&[(stage.payload("team/other", &stage.digest), "cosign")])?;
    stage.refused("cosign.pub", "/team/other\", not for ")?;
    stage.attach(&[(good.replace("cosign container image signature", "something else"), "cosign")])?;
    stage.refused(
        "cosign.pub",
        "the signed payload is \"something else\"; expected a signature of an image",
    )?;

    stage.attach(&[(good.clone(), "cosign"), (good, "ed")])?;
    stage.pull("cosign.pub")?.ok()?;
    for key in ["cosign.pub", "ed.pub"] {
        let json: Value = serde_json::from_slice(&stage.verify(&["--json", "--key", key])?.ok()?.stdout)?;
        let key = format!(
            "sha256:{}",
            sha256(&openssl(stage.sandbox.path(), &["pkey", "-pubin", "-in", key, "-outform", "DER"])?)
        );
        let identity = format!("{}/team/app", stage.registry.address());
        let digest = format!("sha256:{}", stage.digest);
        ensure_eq!(
            json,
            json!([{"key": key, "digest": digest, "form": "simple-signing", "identity": identity}])
        );
    }
    // Each of several keys must have signed.
    ensure_eq!(stage.verify(&["--key", "cosign.pub", "--key", "ed.pub"])?.ok()?.out().lines().count(), 2);
    stage.verify(&["--key", "cosign.pub", "--key", "other.pub"])?.exits(4)?;
    // What was found is kept, and checked anew.
    stage.verify(&["--offline", "--key", "cosign.pub"])?.ok()?;
    let offline = stage.verify(&["--offline", "--key", "other.pub"])?.exits(3)?.err();
    ensure!(offline.contains("--offline rules out asking"), "{offline}");
    let kept = stage.sandbox.store().join(format!("cache/signatures/default/{}.json", stage.digest));
    let text = fs::read_to_string(&kept)?;
    let first = text.find("payload\":\"").ok_or("no payload is kept")? + 20;
    let mut changed = text.into_bytes();
    changed[first] = if changed[first] == b'A' { b'B' } else { b'A' };
    fs::write(&kept, changed)?;
    stage.verify(&["--offline", "--key", "cosign.pub"])?.exits(3)?;
    stage.verify(&["--key", "cosign.pub"])?.ok()?;
    let log = stage.sandbox.mvmctl(["audit", "tail", "-n", "100"]).run()?.ok()?.out();
    ensure!(log.contains("\"verify-signature\""), "the log doesn't tell of signatures:\n{log}");
    Ok(())
}

fn bundles() -> Outcome {
    let stage = Stage::new()?;
    let sign = "https://sigstore.dev/cosign/sign/v1";
    stage.refer(&stage.bundle("cosign", "https://slsa.dev/provenance/v1", &stage.digest)?)?;
    stage.refused("cosign.pub", "\"https://slsa.dev/provenance/v1\"; expected a signature of an image")?;
    stage.refer(&stage.bundle("cosign", sign, &"9".repeat(64))?)?;
    stage.refused("cosign.pub", "not of this image")?;
    stage.refer(&stage.bundle("other", sign, &stage.digest)?)?;
    stage.refused("cosign.pub", "none of 1 signatures found is one by key")?;
    stage.refer(&stage.bundle("cosign", sign, &stage.digest)?)?;
    stage.pull("cosign.pub")?.ok()?;
    let said = stage.verify(&["--key", "cosign.pub"])?.ok()?;
    ensure!(
        said.out().contains(&format!("ok, in-toto statement of sha256:{}", stage.digest)),
        "{}",
        said.out()
    );
    ensure!(said.err().contains("no transparency log"), "{}", said.err());
    // More than anybody reads is left out, and said to be.
    stage.refer(&format!("{}{}", stage.bundle("cosign", sign, &stage.digest)?, " ".repeat(2 << 20)))?;
    let fresh = Sandbox::new()?;
    let pull = fresh.mvmctl(["pull", "--verify-key"]).arg(stage.sandbox.path().join("cosign.pub"));
    pull.arg(&stage.image).run()?.exits(4)?;
    Ok(())
}

fn by_hand() -> Outcome {
    let stage = Stage::new()?;
    let path = stage.sandbox.path();
    let bundle = stage.bundle("cosign", "https://sigstore.dev/cosign/sign/v1", &stage.digest)?;
    fs::write(path.join("bundle.json"), &bundle)?;
    stage.verify(&["--key", "cosign.pub", "--bundle", "bundle.json"])?.ok()?;
    stage.verify(&["--key", "other.pub", "--bundle", "bundle.json"])?.exits(4)?;
    let payload = stage.payload("team/app", &stage.digest);
    fs::write(path.join("payload"), &payload)?;
    fs::write(path.join("signature"), stage.sign("cosign", payload.as_bytes())? + "\n")?;
    let detached = ["--key", "cosign.pub", "--payload", "payload", "--signature", "signature"];
    stage.verify(&detached)?.ok()?;
    fs::write(path.join("payload"), payload + " ")?;
    stage.verify(&detached)?.exits(4)?;
    // The manifest itself, signed as any file is.
    let manifest = fs::read(fixtures::busybox()?.join("blobs/sha256").join(&stage.digest))?;
    let raw: Vec<u8> = Sha256::digest(&manifest).to_vec();
    for key in ["cosign", "ed"] {
        let message = json!({
            "messageDigest": {"algorithm": "SHA2_256", "digest": STANDARD.encode(&raw)},
            "signature": stage.sign(key, &manifest)?,
        });
        let bundle = json!({"mediaType": BUNDLE, "verificationMaterial": {}, "messageSignature": message});
        fs::write(path.join("bundle.json"), bundle.to_string())?;
        stage.verify(&["--key", &format!("{key}.pub"), "--bundle", "bundle.json"])?.ok()?;
        stage.verify(&["--key", "other.pub", "--bundle", "bundle.json"])?.exits(4)?;
    }
    fs::write(path.join("bundle.json"), vec![b' '; 2 << 20])?;
    let huge = stage.verify(&["--key", "cosign.pub", "--bundle", "bundle.json"])?.exits(1)?.err();
    ensure!(huge.contains("it is longer than 1048576 bytes"), "{huge}");
    stage.verify(&["--key", "cosign.pub", "--payload", "payload"])?.exits(2)?;
    Ok(())
}

fn bad_keys() -> Outcome {
    let stage = Stage::new()?;
    for (key, words) in [
        ("rsa.pub", "keys of algorithm 1.2.840.113549.1.1.1 are not supported"),
        ("cosign.key", "expected PEM with the label"),
        ("absent.pub", "No such file"),
        ("/dev/zero", "it is longer than"),
    ] {
        let refused = stage.verify(&["--key", key])?.exits(1)?.err();
        ensure!(refused.contains(words), "{key}: {refused}");
    }
    stage.verify(&[])?.exits(2)?;
    let layout = format!("oci:{}:latest", fixtures::busybox()?.display());
    let key = stage.sandbox.path().join("cosign.pub");
    let pull = stage.sandbox.mvmctl(["pull", "--verify-key"]).arg(&key).arg(&layout);
    let refused = pull.run()?.exits(2)?.err();
    ensure!(refused.contains("signatures of layouts and archives are not supported"), "{refused}");
    Ok(())
}

fn run_signed() -> Outcome {
    let stage = Stage::new()?;
    stage.sandbox.import_kernel()?;
    let run = |key: &str| {
        let run = stage.sandbox.mvmctl(["run", "--rm", "--verify-key", key]).directory(stage.sandbox.path());
        run.arg(&stage.image).arg("true").run()
    };
    let unsigned = run("cosign.pub")?.exits(125)?.err();
    ensure!(unsigned.contains("has no signature of it"), "{unsigned}");
    // Also where the image is in the store already, without anybody having asked who signed it.
    stage.sandbox.mvmctl(["run", "--rm", &stage.image, "true"]).run()?.ok()?;
    run("cosign.pub")?.exits(125)?;
    stage.attach(&[(stage.payload("team/app", &stage.digest), "cosign")])?;
    run("cosign.pub")?.ok()?;
    run("other.pub")?.exits(125)?;
    ensure_eq!(stage.sandbox.vms()?, Vec::<String>::new());
    Ok(())
}

fn policy() -> Outcome {
    let stage = Stage::new()?;
    stage.sandbox.import_kernel()?;
    let repositories = format!("{}/team/*", stage.registry.address());
    let text =
        format!("image-signature = [{{ key = \"cosign.pub\", repositories = [\"{repositories}\"] }}]\n");
    fs::write(stage.sandbox.path().join("policy.toml"), text)?;
    let path = stage.sandbox.path().to_owned();
    let run = |options: &[&str]| {
        let run = stage.sandbox.mvmctl(["run", "--rm", "--policy", "policy.toml"]).directory(&path);
        run.args(options).arg(&stage.image).arg("true").run()
    };
    let refused = |options: &[&str]| -> Outcome {
        let output = run(options)?.exits(125)?.err();
        ensure!(output.contains("no signature of the image was verified with a key that counts"), "{output}");
        let log = stage.sandbox.mvmctl(["audit", "tail", "-n", "2"]).run()?.ok()?.out();
        ensure!(
            log.contains("\"refuse\"") && log.contains("image-signature"),
            "the log doesn't tell of it:\n{log}"
        );
        Ok(())
    };
    refused(&[])?;
    stage.attach(&[(stage.payload("team/app", &stage.digest), "other")])?;
    refused(&[])?;
    stage.attach(&[(stage.payload("team/else", &stage.digest), "cosign")])?;
    refused(&[])?;
    stage.attach(&[(stage.payload("team/app", &stage.digest), "cosign")])?;
    // Nobody asks the registry, so nobody knows.
    refused(&["--pull", "never"])?;
    run(&[])?.ok()?;
    run(&["--pull", "never"])?.ok()?;
    // A bundle's word for what a manifest makes is its signer's, and counts for nothing where another key is asked for.
    let at = |name: &str| path.join(name).display().to_string();
    let (plan, bundle) = (at("web.plan"), at("web.bundle"));
    stage.sandbox.mvmctl(["plan", "create", "-o", &plan, &stage.image, "true"]).run()?.ok()?;
    stage.sandbox.mvmctl(["plan", "bundle", "-o", &bundle, &plan]).run()?.ok()?;
    let other = Sandbox::new()?;
    let key = stage.sandbox.mvmctl(["key", "export", "local"]).run()?.ok()?.stdout;
    fs::write(path.join("theirs.pub"), key)?;
    other.mvmctl(["key", "trust", "--name", "theirs", "--development", &at("theirs.pub")]).run()?.ok()?;
    other.mvmctl(["plan", "import", "-o", "/dev/null", &bundle]).run()?.ok()?;
    let launch = || other.mvmctl(["launch", "--rm", "--policy", "policy.toml", &plan]).directory(&path).run();
    let said = launch()?.exits(125)?.err();
    ensure!(
        said.contains("no signature of the image was verified") && said.contains("pull it again"),
        "{said}"
    );
    other.mvmctl(["pull", &stage.image]).run()?.ok()?;
    launch()?.ok()?;
    // What was found is no verdict: another key in the policy, and it counts for nothing.
    fs::copy(path.join("other.pub"), path.join("cosign.pub"))?;
    refused(&[])?;
    Ok(())
}
