//! The composition: pull, assemble, run, supervise. What mvmctl, an SDK or a containerd shim calls.

mod attach;
mod audit;
mod audit_log;
mod builder;
mod claims;
mod clock;
mod closures;
mod copy;
mod directories;
mod doctor;
mod engine;
mod error;
mod export;
mod facts;
mod flake;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod housekeeping;
mod image_tree;
mod images;
mod journal;
mod kernel_build;
mod kernels;
mod keys;
mod link;
mod load;
mod login;
mod network;
mod plan_bundle;
mod plans;
mod policies;
mod progress;
mod project;
mod provenance;
mod pull;
mod push;
mod run;
mod save;
mod scopes;
mod secrets;
mod settings;
mod signatures;
mod size;
mod special_files;
mod store_settings;
mod supervisor;
mod tag;
mod used_plans;
mod verify;
mod vm;
mod vms;
mod volumes;

pub use attach::{
    AttachError, Attachment, ControlConnection, DetachKeys, DetachKeysError, SignalSource, Target, attach,
};
pub use audit_log::{
    AuditError, AuditReport, Follower, LogSettings, Signed, Tampering, Verification, WitnessError,
    WitnessReport,
};
pub use builder::{
    AptError, BuilderCollected, BuilderError, BuilderInputs, BuilderOrigin, BuilderRecord, BuilderRequest,
    BuilderSession, BuilderSource, BuilderState, BuilderStatus, DebError, DebianPackage, DebianRelease,
    SOURCE_TARGET,
};
pub use clock::unix_seconds;
pub use closures::{
    BuildFacts, BuilderFacts, ClosureManifest, ClosurePath, ImportError, NarSource, PathTrust,
};
pub use copy::{CopyError, CopyOptions, LandError, LeftBehind};
pub use directories::DirectoryError;
pub use doctor::{Check, doctor};
pub use engine::Engine;
pub use error::{EngineError, ErrorKind, chain};
pub use export::{Compression, ExportError, UnknownCompression};
pub use flake::{
    BuildCounts, BuildError, BuildLogReader, BuildOutcome, BuildRecord, BuildRequest, Built, FlakeLibrary,
    FlakeOutputs, InputName, InputNameError, InputOverride, LockError, MAX_SOURCE, SYSTEM, SourceError,
    init_flake,
};
pub use housekeeping::{DiskUsage, KindUsage};
pub use image_tree::{Digests, NodeTime, Shown, TreeEntry};
pub use images::{BuildDetails, BuiltPath, ImageDetails, ImageRow, TrustCounts, full_name, kind_name};
pub use journal::{Happening, LineReader, LogLine, Origin, OutputStream, VmEvent};
pub use kernels::KernelListing;
pub use keys::{KeyListing, KeysError, PrivateHalf, Rotated, SealedKey, Signers, StoredKey};
pub use load::Loaded;
pub use login::{LoggedIn, logged_in, login, logout, logout_all};
pub use mvm_fetch::{
    Bundle, FetchConfig, HostPattern, KnownUser, Login, LoginCheck, Proxies, ProxyAddress, ProxyError,
    RegistriesConf, Secret,
};
pub use mvm_plan::SigningKey;
pub use mvm_plan::UtcTime;
pub use mvm_plan::cosign::{Evidence, ImageKey, ImageSignature};
pub use mvm_plan::plan::{
    EgressRule, Group, HealthCheck, Mount, MountSource, Network as GuestNetwork, Port,
    Process as PlanProcess, Protocol, RequiredIsolation, Restart, Service, ServiceLimits, User,
};
pub use mvm_plan::policy::Seconds;
pub use mvm_plan::signal::Signal;
pub use mvm_store::{Collected, CollectedKind, GcReport, LeaseRecord, Reason, Tally, Usage, VolumeRecord};
pub use mvm_tree::{SettingError, UnpackPolicy};
pub use mvm_wire::{
    ExitStatus, Health, HealthOutcome, HealthResult, HealthStatus, ServiceState, ServiceStatus, WindowSize,
};
pub use network::{Destination, NetworkWordError, PortMapping, user_network};
pub use plan_bundle::{BundleError, ImportedPlan};
pub use plans::{PlanReport, PlanView, PolicyReport, RuleReport, SignatureView, utc_time};
pub use policies::{PolicyFileError, PolicySource, SYSTEM_POLICY};
pub use progress::{Cancel, Progress, Sent, Silent, Step};
pub use project::{
    After, Bringing, Brought, MAX_PROJECT, Mistake, NetworkChoice, PROJECT_FILE, Project, ProjectError,
    ProjectLock, ProjectMistakes, Trouble, Until, VmDefinition, VolumeDefinition,
};
pub use provenance::{Provenance, ProvenanceFailure};
pub use pull::{PullError, Pulled, QuotaExceeded};
pub use push::{PushError, PushRequest, Pushed};
pub use run::{
    DraftPlan, LaunchRequest, Launched, PullPolicy, RunRequest, Surroundings, Workload, WorkloadHealth,
};
pub use save::{SaveFormat, SaveRequest, SaveTarget, UnknownFormat};
pub use scopes::{RemovedScope, ScopeDetails, ScopeRow, Scopes};
pub use secrets::{
    MAX_SECRET, NamedSource, Secret as VmSecret, SecretError, SecretSource, SecretValue, absolute_source,
    read_secrets,
};
pub use settings::{HelperEnvironment, Settings};
pub use signatures::SignatureError;
pub use size::{Size, SizeError};
pub use special_files::{PathList, SpecialFiles};
pub use store_settings::SettingsError;
pub use verify::{OnDamage, Verified};
pub use vm::{Phase, RestartPolicy, RestartPolicyError, VmError};
pub use vms::{
    ExecRequest, Generation, GuestReport, Lookup, Start, StartError, UpdateError, UpdateRequest,
    Usage as VmUsage, VmDetails, VmListing, VmLogs, VmResources, VmStatus,
};
pub use volumes::{VOLUME_SIZE, VolumeError};

/// Generation of the image format that this engine writes and boots.
pub const IMAGE_FORMAT: u32 = mvm_image::GENERATION;
/// Newest version of the protocol between host and guest that this engine speaks.
pub const WIRE_VERSION: u32 = mvm_wire::MAX_VERSION;
