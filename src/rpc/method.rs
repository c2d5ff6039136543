//! Every method that is served, and what holds for its calls before they are looked at: who may make them,
//! and how long they may take.
//!
//! A method that has no row is not served to anybody.

use std::time::Duration;

use crate::domain::access::Role;
use crate::domain::limits::{
    CALL_SECONDS_MAX, LIFECYCLE_CALL_SECONDS_MAX, TRANSFER_CALL_SECONDS_MAX,
    WAITING_CALL_SECONDS_MAX,
};

/// A method of a service.
#[derive(Debug, PartialEq, Eq)]
pub struct Method {
    /// The full name of its service.
    pub service: &'static str,
    /// Its own name.
    pub name: &'static str,
    /// Who may call it.
    pub access: Access,
    /// How long a call may take, whatever its client says; nothing for a stream without an end.
    pub longest: Option<Duration>,
    /// Its place in [`METHODS`].
    pub index: usize,
}

/// Who may call a method, where anybody is told from anybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, also who is not known.
    Open,
    /// Whoever is known.
    Known,
    /// Who has this role for some instance. The call concerns, and its answer shows, only what the caller
    /// may act on.
    Somewhere(Role),
    /// Who has this role for the instance that the request names.
    There(Role),
    /// Who has there the one of these roles that the request takes.
    ThereAs(Role, Role),
}

const SESSION: &str = "jet.session.v1.SessionService";
const INSTANCE: &str = "jet.session.v1.InstanceService";
const THREAD: &str = "jet.session.v1.ThreadService";
const ERROR: &str = "jet.session.v1.ErrorService";
const HEALTH: &str = "grpc.health.v1.Health";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";
const REFLECTION_ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

/// A call that only has to be decided.
const DECIDED: Option<Duration> = Some(Duration::from_secs(CALL_SECONDS_MAX));
/// One that may wait for a session.
const WAITING: Option<Duration> = Some(Duration::from_secs(WAITING_CALL_SECONDS_MAX));
/// One that answers when an instance has moved.
const MOVED: Option<Duration> = Some(Duration::from_secs(LIFECYCLE_CALL_SECONDS_MAX));
/// One that carries a backup.
const CARRIED: Option<Duration> = Some(Duration::from_secs(TRANSFER_CALL_SECONDS_MAX));
/// A stream that ends when either side ends it.
const ENDLESS: Option<Duration> = None;

/// All methods, by service and name.
pub static METHODS: [Method; COUNT] = {
    use Access::{Known, Open, Somewhere, There, ThereAs};
    use Role::{Admin, Observe, Operate, Use};
    numbered([
        row(HEALTH, "Check", Open, DECIDED),
        row(HEALTH, "Watch", Open, ENDLESS),
        row(REFLECTION, "ServerReflectionInfo", Known, ENDLESS),
        row(REFLECTION_ALPHA, "ServerReflectionInfo", Known, ENDLESS),
        row(ERROR, "GetError", Known, DECIDED),
        row(ERROR, "ListErrors", Known, DECIDED),
        row(INSTANCE, "BackupInstance", There(Operate), CARRIED),
        row(INSTANCE, "CreateInstance", There(Admin), DECIDED),
        row(INSTANCE, "DeleteInstance", There(Admin), DECIDED),
        row(INSTANCE, "GetInstance", There(Observe), DECIDED),
        row(INSTANCE, "GetServerInfo", Known, DECIDED),
        row(INSTANCE, "InitializeInstance", There(Operate), MOVED),
        row(INSTANCE, "ListInstances", Somewhere(Observe), DECIDED),
        row(INSTANCE, "RestoreInstance", There(Admin), CARRIED),
        row(INSTANCE, "StopInstance", There(Operate), MOVED),
        row(INSTANCE, "TerminateInstance", There(Operate), MOVED),
        row(INSTANCE, "WatchInstances", Somewhere(Observe), ENDLESS),
        row(SESSION, "BatchBeginSessions", There(Use), DECIDED),
        row(SESSION, "BeginSession", There(Use), DECIDED),
        row(SESSION, "BeginTransaction", There(Use), DECIDED),
        row(SESSION, "CheckSessionContext", There(Observe), DECIDED),
        row(SESSION, "ClaimSessionContext", There(Use), WAITING),
        row(SESSION, "CommitTransaction", There(Use), DECIDED),
        row(SESSION, "DuplicateSession", There(Use), DECIDED),
        // The one, or with `force` the other.
        row(SESSION, "EndSession", ThereAs(Use, Operate), DECIDED),
        row(SESSION, "ForceResetSessionContext", There(Operate), DECIDED),
        row(SESSION, "GetSession", There(Observe), DECIDED),
        row(SESSION, "ListSessions", There(Observe), DECIDED),
        // Each operation is looked at by itself.
        row(SESSION, "PipelineSessionContexts", Somewhere(Use), ENDLESS),
        row(SESSION, "ResetSessionContext", There(Use), DECIDED),
        row(SESSION, "RollbackTransaction", There(Use), DECIDED),
        row(SESSION, "SetSessionContext", There(Use), WAITING),
        row(SESSION, "TransferSessionContext", There(Use), DECIDED),
        row(SESSION, "WatchSessions", There(Observe), ENDLESS),
        row(THREAD, "EndThreads", Somewhere(Use), DECIDED),
        row(THREAD, "GetThread", Somewhere(Use), DECIDED),
        row(THREAD, "KeepThreadsAlive", Somewhere(Use), DECIDED),
        row(THREAD, "ListThreads", Somewhere(Observe), DECIDED),
    ])
};

const COUNT: usize = 38;

const fn row(
    service: &'static str,
    name: &'static str,
    access: Access,
    longest: Option<Duration>,
) -> Method {
    Method { service, name, access, longest, index: 0 }
}

const fn numbered(mut methods: [Method; COUNT]) -> [Method; COUNT] {
    let mut index = 0;
    while index < COUNT {
        methods[index].index = index;
        index += 1;
    }
    methods
}

impl Method {
    /// The method that a path such as `/jet.session.v1.SessionService/BeginSession` names.
    pub fn of(path: &str) -> Option<&'static Self> {
        let (service, name) = path.strip_prefix('/')?.split_once('/')?;
        METHODS
            .binary_search_by(|method| {
                rank(method.service).cmp(&rank(service)).then_with(|| method.name.cmp(name))
            })
            .ok()
            .map(|at| &METHODS[at])
            .filter(|method| method.service == service)
    }
}

/// Services in the order of the table.
fn rank(service: &str) -> usize {
    const ORDER: [&str; 7] =
        [HEALTH, REFLECTION, REFLECTION_ALPHA, ERROR, INSTANCE, SESSION, THREAD];
    ORDER.iter().position(|known| *known == service).unwrap_or(ORDER.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_its_path() {
        for (index, method) in METHODS.iter().enumerate() {
            let found = Method::of(&format!("/{}/{}", method.service, method.name));
            assert_eq!(found, Some(method));
            assert_eq!(method.index, index);
        }
        for path in [
            "",
            "/",
            "/x/GetError",
            "/jet.session.v1.SessionService/",
            "jet",
            "/grpc.health.v1.Health/check",
        ] {
            assert_eq!(Method::of(path), None, "{path}");
        }
    }

    #[test]
    fn every_method_that_is_served_has_a_row_and_no_other() {
        let sets = [
            crate::proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut served = Vec::new();
        for set in sets {
            let pool = prost_reflect::DescriptorPool::decode(set).unwrap();
            for service in pool.services() {
                for method in service.methods() {
                    served.push(format!("/{}/{}", service.full_name(), method.name()));
                }
            }
        }
        let mut rows: Vec<_> =
            METHODS.iter().map(|method| format!("/{}/{}", method.service, method.name)).collect();
        served.sort();
        rows.sort();
        assert_eq!(rows, served);
    }
}
