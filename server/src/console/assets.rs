//! The files of the console, as `build.rs` has found them.

use axum::http::HeaderValue;

/// A file of the console.
#[derive(Debug)]
pub(super) struct Asset {
    /// Its path, without a slash at the beginning.
    pub(super) path: &'static str,
    /// What it is.
    pub(super) media_type: &'static str,
    /// Its name changes with its content.
    pub(super) is_immutable: bool,
    /// Its `ETag`.
    pub(super) tag: &'static str,
    /// Its content.
    pub(super) plain: &'static [u8],
    /// The same by brotli.
    pub(super) brotli: Option<&'static [u8]>,
    /// The same by gzip.
    pub(super) gzip: Option<&'static [u8]>,
}

/// How a content is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Brotli,
    Gzip,
}

impl Encoding {
    /// As a header says it.
    pub(super) const fn value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Identity => "identity",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        })
    }
}

impl Asset {
    /// The smallest of what there is and the client takes.
    pub(super) fn best(&self, takes: impl Fn(&str) -> bool) -> (Encoding, &'static [u8]) {
        match (self.brotli, self.gzip) {
            (Some(bytes), _) if takes("br") => (Encoding::Brotli, bytes),
            (_, Some(bytes)) if takes("gzip") => (Encoding::Gzip, bytes),
            _ => (Encoding::Identity, self.plain),
        }
    }
}

/// All of them, by their paths; none where the console was not built.
pub(super) static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/console.rs"));
