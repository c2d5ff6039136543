# The image of jet-session: one statically linked file on an empty root, and an empty directory for its data.
#
# Static glibc on `scratch`, rather than a distroless base with a libc: there is nothing beside the program to
# patch, to run or to pull, and the image is a fraction of the size. Names still resolve, because glibc since 2.34
# has its lookups in /etc/hosts and DNS inside. musl would do as well, but then we would ship another libc and
# another allocator than the tests and benches run on.
#
# Bases are pinned by their full tag. Through the ARG a mirror, or a base made on the spot (tests/container),
# takes the place of the public one. The version in it is the channel of rust-toolchain.toml; tests/container
# compares the two.
ARG RUST_IMAGE=docker.io/library/rust:1.95.0-bookworm

# What writes down what the program is made of. Each runs once, so they are compiled quickly and not to be quick.
FROM ${RUST_IMAGE} AS tools
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    cargo install --locked --debug --root /tools cargo-auditable@0.7.7 cargo-cyclonedx@0.5.9

# The dependencies alone, so that this layer lasts until Cargo.toml or Cargo.lock changes.
FROM ${RUST_IMAGE} AS dependencies
COPY --from=tools /tools/bin/ /usr/local/bin/
WORKDIR /src
# The prefixes are those of deploy/README.md: a build elsewhere that names its own by them has the same bytes.
ENV RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=/usr/local/cargo=/cargo"
COPY Cargo.toml Cargo.lock ./
# An empty program, library and build script stand in for ours. Afterwards cargo's traces of them are removed:
# it compares timestamps only and would take them for ours. Benches and tests are not sent here, so the manifest
# must not ask for them. With --target the flags above spare build scripts and macros, which cannot be static.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    awk '/^\[/ { skip = /^\[\[(bench|test|example)\]\]/ } !skip' Cargo.toml > kept && mv kept Cargo.toml \
    && mkdir src && touch src/lib.rs && echo 'fn main() {}' | tee src/main.rs > build.rs \
    && target="$(rustc --print host-tuple)" \
    && cargo auditable build --release --locked --target "$target" \
    && cargo clean --release --locked --target "$target" --package jet-session \
    && rm -r src build.rs

FROM dependencies AS build
COPY build.rs ./
COPY proto proto
COPY src src
# Read by build.rs, for `--version`: there is no .git here to ask.
ARG JET_SESSION_COMMIT=unknown
# Auditable: the names and versions of all that is linked are in the program itself, where scanners look for them.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    cargo auditable build --release --locked --target "$(rustc --print host-tuple)" \
    && cp target/*/release/jet-session /jet-session \
    && mkdir -p /data/jet-session && chmod 700 /data/jet-session

# The bill of materials (CycloneDX): the same list with licences, checksums and what is only used to build. Not in
# the image, which is one file, but beside it: `docker build --target sbom --output DIRECTORY .`
FROM build AS bill
# What it says of its own age; docker passes it on by itself.
ARG SOURCE_DATE_EPOCH=0
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH}" cargo cyclonedx --format json --spec-version 1.5 \
        --target "$(rustc --print host-tuple)" --override-filename jet-session.cdx

FROM scratch AS sbom
COPY --from=bill /src/jet-session.cdx.json /

FROM scratch
COPY --from=build /jet-session /usr/bin/jet-session
# There is no shell to make it later, and a new volume takes the owner of what it covers.
COPY --from=build --chown=65532:65532 /data /var/lib
# A number, because there is no passwd file to look a name up in.
USER 65532:65532
WORKDIR /
# The only place that is written to. Give it a name (`--volume NAME:/var/lib/jet-session`): a volume without
# one ends with its container.
VOLUME /var/lib/jet-session
# Calls; and, where the settings ask for them, health in plaintext and metrics.
EXPOSE 50051 50052 9464
STOPSIGNAL SIGTERM
# Kept only in the docker image format (`buildah build --format docker`); Kubernetes ignores it either way.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["/usr/bin/jet-session", "healthcheck"]
ENTRYPOINT ["/usr/bin/jet-session"]
# Nobody outside reaches a container's loopback, and on any other address the server wants to hear this word:
# calls are plaintext. So publish the port on the host's loopback only, or to a private network.
CMD ["serve", "--listen", "0.0.0.0:50051", "--insecure", "--data-dir", "/var/lib/jet-session"]
ARG JET_SESSION_VERSION=unknown
ARG JET_SESSION_COMMIT=unknown
# Neither when it was made, which would make each image another one, nor where from: `--label` at the build says it.
LABEL org.opencontainers.image.title="jet-session" \
      org.opencontainers.image.description="Who may use this session right now: the ESE session-context contract as a gRPC service" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${JET_SESSION_VERSION}" \
      org.opencontainers.image.revision="${JET_SESSION_COMMIT}"
