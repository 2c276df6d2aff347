//! The enclave's files: the kept world, the policy, and their folders.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::world::{hex, random};

/// A fresh folder for one run, removed on drop. The next start removes what a killed run left.
pub(crate) struct Folder {
    path: PathBuf,
    /// Locked while this process lives, so that other enclaves can tell.
    _lock: File,
}

impl Folder {
    const PREFIX: &str = "confer-enclave.";

    pub(crate) fn temporary() -> Result<Self, Failure> {
        let parent = std::env::temp_dir().canonicalize()?;
        Self::remove_stale(&parent);
        loop {
            let name = format!("{}{}", Self::PREFIX, hex(&random::<8>()));
            let path = parent.join(name);
            DirBuilder::new().mode(0o700).create(&path)?;
            // Until it is locked, another process may consider it stale and remove it.
            match File::open(&path) {
                Ok(lock) => {
                    lock.lock()?;
                    if path.exists() {
                        return Ok(Self { path, _lock: lock });
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Removes the folders of processes that have ended. Folders of other users can't be opened,
    /// and stay.
    fn remove_stale(parent: &Path) {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_ours = name.as_encoded_bytes().starts_with(Self::PREFIX.as_bytes());
            if is_ours
                && entry.file_type().is_ok_and(|kind| kind.is_dir())
                && let Ok(lock) = File::open(entry.path())
                && lock.try_lock().is_ok()
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("confer-enclave: {}: {error}", self.path.display());
        }
    }
}

/// Creates the folder of `--state`. It holds private keys, so only its owner can read it.
pub(crate) fn kept(path: &Path) -> Result<(), Failure> {
    Ok(DirBuilder::new().recursive(true).mode(0o700).create(path)?)
}

/// Writes a file atomically, readable only by its owner. Returns false if it already exists.
pub(crate) fn create(path: &Path, content: &[u8]) -> Result<bool, Failure> {
    let fresh = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(content)?;
    // Unlike a rename, a link never replaces a file that another process has just created.
    let linked = fs::hard_link(&fresh, path);
    fs::remove_file(&fresh)?;
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.into()),
    }
}
