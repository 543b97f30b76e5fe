//! Why an image is refused, as exit code and words tell it.

/// A reason to refuse an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The archive ends inside an entry.
    Truncated,
    /// One zero block inside the archive.
    LoneZeroBlock,
    /// A header's checksum is wrong.
    Checksum,
    /// A header field is no number.
    Number,
    /// A number is out of range.
    Range,
    /// An entry type that no layer has.
    TypeFlag,
    /// A very long extended header.
    HeaderLong,
    /// Two extended headers of one type.
    HeaderRepeated,
    /// An extended header without entry.
    HeaderDangling,
    /// PAX and GNU headers name different paths.
    NamesDiffer,
    /// A PAX record without its form.
    PaxRecord,
    /// A PAX value that is none.
    PaxValue,
    /// A global header that sets what belongs to one entry.
    PaxGlobal,
    /// A `..` in a path.
    Parent,
    /// A NUL in a path.
    Nul,
    /// A link without target.
    LinkTarget,
    /// A root that is no directory.
    Root,
    /// A whiteout of nothing.
    Whiteout,
    /// Something beneath a whiteout.
    BeneathWhiteout,
    /// A device that overlayfs takes for a whiteout.
    OverlayWhiteout,
    /// A device that is not allowed.
    Device,
    /// An attribute that overlayfs obeys.
    OverlayXattr,
    /// An attribute with a name that is too long, or none.
    XattrName,
    /// A whiteout where none are allowed.
    NoWhiteouts,
    /// An absolute link where none are allowed.
    NoAbsoluteLinks,
    /// A hard link where none are allowed.
    NoHardLinks,
    /// A hard link to another layer's file where none are allowed.
    NoHardLinksAcross,
    /// A set-id bit where none are allowed.
    NoSetId,
    /// A file capability where none are allowed.
    NoCapabilities,
    /// An attribute with two values.
    XattrsDiffer,
    /// A sparse map that makes no sense.
    Sparse,
    /// More of something than a limit allows.
    OverLimit,
    /// A path beneath something that is no directory.
    NotDirectory,
    /// A hard link to nothing.
    TargetMissing,
    /// A hard link to a directory.
    TargetDirectory,
    /// A path that leads through too many symbolic links.
    TooManySymlinks,
    /// A path that becomes too long once links are followed.
    PathTooLong,
    /// A compressed stream that is none.
    Magic,
    /// A compressed stream that is damaged.
    Corrupt,
    /// A compressed stream that is cut off.
    StreamTruncated,
    /// Other data after a compressed stream.
    TrailingData,
    /// A window larger than anybody gives.
    Window,
    /// A stream that expands out of proportion.
    Bomb,
    /// A layer that is not what its diff ID says.
    DiffId,
    /// More layers than allowed.
    Layers,
    /// A document that is a manifest and an index.
    Ambiguous,
    /// A document that says another type than what led to it.
    MediaTypes,
    /// A manifest of Docker's first kind.
    Schema1,
    /// A document of an unknown version.
    SchemaVersion,
    /// JSON that is none, or of another shape than the specification's.
    Json,
    /// Something that is no image.
    NotAnImage,
    /// A document without what its type must have.
    Shape,
    /// Layers and diff IDs that aren't as many.
    Pair,
    /// A size that is no size.
    DescriptorSize,
    /// A blob of another length than its descriptor says.
    BlobSize,
    /// A digest that is none.
    DigestValue,
    /// A digest of a kind that isn't verified.
    DigestAlgorithm,
    /// A blob that isn't there.
    NoBlob,
    /// A layer that is to come from elsewhere.
    Foreign,
    /// A document whose objects and arrays nest too deep.
    Nesting,
    /// A document longer than is read.
    DocumentLimit,
    /// Indexes in each other, deeper than they are followed.
    IndexDepth,
    /// More indexes than are followed.
    IndexCount,
    /// An index that says another platform than the config.
    PlatformLie,
    /// A config for another operating system.
    OperatingSystem,
    /// A config that doesn't say for which processor it is.
    NoArchitecture,
    /// A platform that is none.
    PlatformWords,
    /// A config with a root that isn't made of layers.
    RootfsType,
    /// A text with a NUL byte that becomes an argument or a path.
    NulInConfig,
    /// A document that is not what it is named by.
    DocumentDigest,
    /// A layer that is not what it is named by.
    LayerDigest,
    /// A layout of an unknown version.
    LayoutVersion,
    /// A layout that doesn't say what it is.
    Marker,
    /// An image for other machines.
    Platform,
    /// A name that no image has.
    NoSuchName,
    /// A layout without images.
    EmptyLayout,
    /// A name that several images have.
    SeveralImages,
    /// Something else than a file.
    NotAFile,
}

impl Kind {
    /// Returns the exit code and a text that only this reason has.
    pub fn signs(self) -> (i32, &'static str) {
        match self {
            Kind::Truncated => (4, "the archive ends inside this entry"),
            Kind::LoneZeroBlock => (4, "a single zero block inside the archive"),
            Kind::Checksum => (4, "header checksum"),
            Kind::Number => (4, "is not a number"),
            Kind::Range => (4, "allowed are 0 to"),
            Kind::TypeFlag => (4, "is not supported"),
            Kind::HeaderLong => (4, "extended header of type"),
            Kind::HeaderRepeated => (4, "a second extended header of type"),
            Kind::HeaderDangling => (4, "ends after an extended header"),
            Kind::NamesDiffer => (4, "two different names"),
            Kind::PaxRecord => (4, "malformed PAX record"),
            Kind::PaxValue => (4, "has no valid value"),
            Kind::PaxGlobal => (4, "in a global header"),
            Kind::Parent => (4, "with a `..` component"),
            Kind::Nul => (4, "with a NUL byte"),
            Kind::LinkTarget => (4, "a link without a target"),
            Kind::Root => (4, "the root is not a directory"),
            Kind::Whiteout => (4, "a whiteout of \""),
            Kind::BeneathWhiteout => (4, "a path beneath a whiteout"),
            Kind::OverlayWhiteout => (4, "a character device 0:0"),
            Kind::Device => (5, "is not among the devices allowed"),
            Kind::OverlayXattr => (4, "which overlayfs would obey"),
            Kind::XattrName => (4, "extended attribute with a name of"),
            Kind::NoWhiteouts => (5, "whiteouts are refused"),
            Kind::NoAbsoluteLinks => (5, "absolute targets are refused"),
            Kind::NoHardLinks => (5, "hard links are refused"),
            Kind::NoHardLinksAcross => (5, "only those within a layer are allowed"),
            Kind::NoSetId => (5, "set-user-ID and set-group-ID bits are refused"),
            Kind::NoCapabilities => (5, "file capabilities are refused"),
            Kind::XattrsDiffer => (4, "two different values of extended attribute"),
            Kind::Sparse => (4, "map of a sparse file"),
            Kind::OverLimit => (5, "are allowed"),
            Kind::NotDirectory => (4, "is not a directory"),
            Kind::TargetMissing => (4, "no such file"),
            Kind::TargetDirectory => (4, "the target is a directory"),
            Kind::TooManySymlinks => (5, "symbolic links on the way"),
            Kind::PathTooLong => (5, "its place in the tree has a path longer"),
            Kind::Magic => (4, "which is not supported"),
            Kind::Corrupt => (4, "stream is corrupt"),
            Kind::StreamTruncated => (4, "stream is truncated"),
            Kind::TrailingData => (4, "followed by other data"),
            Kind::Window => (4, "needs a window over"),
            Kind::Bomb => (5, "layer expands to more than"),
            Kind::DiffId => (4, "diff ID"),
            Kind::Layers => (5, "layers"),
            Kind::Ambiguous => (4, "it would be an index to one reader"),
            Kind::MediaTypes => (4, "document"),
            Kind::Schema1 => (4, "schema 1 manifest"),
            Kind::SchemaVersion => (4, "has schemaVersion"),
            Kind::Json => (4, "not"),
            Kind::NotAnImage => (4, "which is not an image"),
            Kind::Shape => (4, "but has no"),
            Kind::Pair => (4, "diff IDs"),
            Kind::DescriptorSize => (4, "has size"),
            Kind::BlobSize => (4, "its descriptor says"),
            Kind::DigestValue => (4, "is not 64 lower-case hex digits"),
            Kind::DigestAlgorithm => (4, "is not supported; expected sha256"),
            Kind::NoBlob => (4, "has no blob"),
            Kind::Foreign => (4, "layers from outside the registry are not fetched"),
            Kind::Nesting => (4, "nests deeper than"),
            Kind::DocumentLimit => (4, "more than 4194304"),
            Kind::IndexDepth => (4, "deep in other indexes"),
            Kind::IndexCount => (4, "that are read for one image"),
            Kind::PlatformLie => (4, "its index says"),
            Kind::OperatingSystem => (4, "image is for operating system"),
            Kind::NoArchitecture => (4, "names no architecture"),
            Kind::PlatformWords => (4, "image config has platform"),
            Kind::RootfsType => (4, "has rootfs type"),
            Kind::NulInConfig => (4, "holds a NUL byte"),
            Kind::DocumentDigest => (4, "has digest sha256:"),
            Kind::LayerDigest => (4, "layer"),
            Kind::LayoutVersion => (4, "expected 1.0.0"),
            Kind::Marker => (4, "bad file oci-layout"),
            Kind::Platform => (3, "no image for platform"),
            Kind::NoSuchName => (3, "has no image"),
            Kind::EmptyLayout => (3, "holds no image"),
            Kind::SeveralImages => (2, "holds several images"),
            Kind::NotAFile => (2, "is not a regular file"),
        }
    }
}
