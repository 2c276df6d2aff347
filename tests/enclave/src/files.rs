//! The few files: the world that is kept, the policy, and the folders they lie in.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::world::{hex, random};

/// A fresh folder for one run; it goes when this value does.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn temporary() -> Result<Self, Failure> {
        let name = format!("confer-enclave-{}", hex(&random::<8>()));
        let path = std::env::temp_dir().canonicalize()?.join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// The folder of `--state`. It holds private keys: only its owner may look into it.
pub(crate) fn kept(path: &Path) -> Result<(), Failure> {
    Ok(DirBuilder::new().recursive(true).mode(0o700).create(path)?)
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("confer-enclave: {}: {error}", self.0.display());
        }
    }
}

/// Writes a file whole or not at all, readable by its owner alone; false if there is one already.
pub(crate) fn create(path: &Path, content: &[u8]) -> Result<bool, Failure> {
    let fresh = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(content)?;
    // Unlike a rename, a link never replaces what another process has just made.
    let linked = fs::hard_link(&fresh, path);
    fs::remove_file(&fresh)?;
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.into()),
    }
}
