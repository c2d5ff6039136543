//! Compiles the API under `proto/` without protoc, and tells the program which commit it is.
//!
//! Leaves in `OUT_DIR`: `jet.session.v1.rs`, servers and clients; `jet_session.bin`, the descriptors of
//! the API and of all it imports, for reflection; and `storage.v1.rs`, what is written to disk.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use protox::{
    Compiler,
    file::{
        ChainFileResolver, DescriptorSetFileResolver, File, FileResolver, GoogleFileResolver,
        IncludeFileResolver,
    },
};

/// What we compile, relative to `proto/`.
const OURS: [&str; 4] = [
    "jet/session/v1/error.proto",
    "jet/session/v1/instance.proto",
    "jet/session/v1/session.proto",
    "jet/session/v1/thread.proto",
];

/// What is written to disk: compiled apart, so that reflection does not tell of it.
const STORAGE: &str = "storage/v1/storage.proto";

/// Imported by nothing, but reflection needs it to print the details of a refusal as text.
const ERROR_DETAILS: &str = "google/rpc/error_details.proto";

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    compile_api(&out)?;
    compile_storage()?;
    println!("cargo:rustc-env=JET_SESSION_COMMIT={}", commit());
    println!("cargo:rerun-if-changed=build.rs");
    Ok(())
}

fn compile_api(out: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");

    // tonic-types carries the google.rpc files, protox those of google.protobuf: none is copied here.
    let mut resolver = ChainFileResolver::new();
    resolver.add(IncludeFileResolver::new(PathBuf::from("proto")));
    resolver
        .add(GoogleRpc(DescriptorSetFileResolver::decode(tonic_types::pb::FILE_DESCRIPTOR_SET)?));
    resolver.add(GoogleFileResolver::new());

    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_files(OURS)?;

    // With comments, which become the documentation of the generated code.
    tonic_prost_build::configure()
        // The order of a message on the wire never depends on a hash.
        .btree_map(".")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(compiler.include_source_info(true).file_descriptor_set())?;

    // Without: reflection serves names and types.
    compiler.include_source_info(false).open_file(ERROR_DETAILS)?;
    fs::write(out.join("jet_session.bin"), compiler.encode_file_descriptor_set())?;
    Ok(())
}

fn compile_storage() -> Result<(), Box<dyn Error>> {
    let mut compiler = Compiler::new(["proto"])?;
    compiler.include_source_info(true).open_file(STORAGE)?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// The google.rpc files of tonic-types under the names everybody imports them by: tonic-types leaves
/// out the folder.
struct GoogleRpc(DescriptorSetFileResolver);

impl FileResolver for GoogleRpc {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let Some(bare) = name.strip_prefix("google/rpc/") else {
            return Err(protox::Error::file_not_found(name));
        };
        let mut file = self.0.open_file(bare)?.file_descriptor_proto().clone();
        file.name = Some(name.to_owned());
        Ok(File::from_file_descriptor_proto(file))
    }
}

/// The commit this is built from: told by `JET_SESSION_COMMIT` (an image has no `.git`), else asked
/// of git, else `unknown`.
fn commit() -> String {
    println!("cargo:rerun-if-env-changed=JET_SESSION_COMMIT");
    if let Some(told) = env::var("JET_SESSION_COMMIT").ok().filter(|told| !told.is_empty()) {
        return told;
    }
    // A source tree unpacked somewhere inside another repository is not at that repository's commit.
    if git(&["rev-parse", "--show-prefix"]).as_deref() != Some("") {
        return "unknown".to_owned();
    }
    // HEAD says which branch, the branch's file which commit, unless it is packed away. Cargo takes a
    // path that does not exist for one that always changed, so of a branch without a file the folder
    // where it will appear is watched.
    let head_and_packed = [git_path("HEAD"), git_path("packed-refs")];
    let mut watched: Vec<PathBuf> = head_and_packed.into_iter().flatten().collect();
    watched.retain(|path| path.exists());
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]).and_then(|name| git_path(&name));
    if let Some(branch) = branch {
        let present = branch.ancestors().find(|path| path.exists());
        watched.extend(present.map(Path::to_owned));
    }
    for path in watched {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

/// Where git keeps `name`, which differs between a clone and a work tree of one.
fn git_path(name: &str) -> Option<PathBuf> {
    git(&["rev-parse", "--git-path", name]).map(PathBuf::from)
}

/// What git answers, on one line; `None` if there is no git, no repository or no answer.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|out| out.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim_end().to_owned())
}
