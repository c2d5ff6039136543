//! What was acknowledged, and so must be found again whatever happens.

use std::collections::BTreeMap;

use crate::domain::gone::Gone;
use crate::domain::instance::{Durability, InstanceRecord};
use crate::domain::lease::Threads;
use crate::domain::session::Session;
use crate::domain::table::{Floor, Retries, SessionTable};

/// Everything that a directory has to remember.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub(super) instances: BTreeMap<String, Instance>,
    /// At least this is the floor.
    pub(super) floor: Floor,
    /// What is kept of deleted instances, by their uids.
    pub(super) gone: BTreeMap<String, Gone>,
}

/// What has to be remembered of an instance.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) record: InstanceRecord,
    /// The states that it may be found in, the newest last: of a FLUSH instance there is one; of a
    /// LAZY one, those after each batch that was answered and may not have been synced.
    pub(super) states: Vec<SessionTable>,
    /// The numbers that anybody was ever told.
    pub(super) told: Floor,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) instances: BTreeMap<String, (InstanceRecord, SessionTable)>,
    pub(super) floor: Floor,
    pub(super) gone: BTreeMap<String, Gone>,
}

impl Instance {
    pub(super) fn new(record: InstanceRecord, table: SessionTable) -> Self {
        let told = table.floor();
        Self { record, states: vec![table], told }
    }

    pub(super) fn newest(&self) -> &SessionTable {
        self.states.last().unwrap()
    }

    /// A batch was answered, after which this is the state.
    pub(super) fn answered(&mut self, table: &SessionTable) {
        match self.record.durability {
            Durability::Flush => self.states.clear(),
            Durability::Lazy => {}
        }
        self.states.push(table.clone());
        self.told = self.told.max(table.floor());
    }

    /// All that was answered has become durable.
    pub(super) fn durable(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }

    /// The same, now that it is known which of the possible states was found.
    pub(super) fn settled(&self, found: &SessionTable) -> Self {
        let (states, told) = (vec![found.clone()], self.told.max(found.floor()));
        Self { record: self.record.clone(), states, told }
    }

    /// Whether what was found is what has to be remembered.
    pub(super) fn check(&self, found: &SessionTable) -> Result<(), String> {
        let floor = found.floor();
        if floor.max(self.told) != floor {
            return Err(format!(
                "numbers up to {:?} were told, and it goes on at {floor:?}",
                self.told
            ));
        }
        match self.record.durability {
            Durability::Flush if found == self.newest() => Ok(()),
            Durability::Lazy
                if self.states.iter().any(|state| remembered(state) == remembered(found)) =>
            {
                Ok(())
            }
            Durability::Flush | Durability::Lazy => Err(format!(
                "its revision is {}, not one of {:?}, or what it remembers differs",
                found.revision(),
                self.states.iter().map(SessionTable::revision).collect::<Vec<_>>(),
            )),
        }
    }
}

impl World {
    /// Whether what was found is what has to be remembered.
    pub(super) fn check(&self, found: &Found) -> Result<(), String> {
        if found.floor.max(self.floor) != found.floor {
            return Err(format!("the floor has sunk from {:?} to {:?}", self.floor, found.floor));
        }
        if found.gone != self.gone {
            let (kept, found) = (&self.gone, &found.gone);
            return Err(format!("of deleted instances {kept:?} is kept, and there is {found:?}"));
        }
        let names = |names: Vec<&String>| format!("{names:?}");
        let (expected, there) =
            (names(self.instances.keys().collect()), names(found.instances.keys().collect()));
        if expected != there {
            return Err(format!("instances should be {expected} and are {there}"));
        }
        for (name, instance) in &self.instances {
            let (record, table) = &found.instances[name];
            if *record != instance.record {
                return Err(format!(
                    "the record of {name} should be {:?} and is {record:?}",
                    instance.record
                ));
            }
            instance.check(table).map_err(|what| format!("{name}: {what}"))?;
        }
        Ok(())
    }

    /// The same, now that it is known which of the possible states was found.
    pub(super) fn settled(&self, found: &Found) -> Self {
        let mut settled = self.clone();
        settled.floor = found.floor;
        for (name, instance) in &mut settled.instances {
            *instance = instance.settled(&found.instances[name].1);
        }
        settled
    }
}

/// All that a table tells but its numbers, which an unclean end of a LAZY instance raises.
fn remembered(table: &SessionTable) -> (Vec<&Session>, &Threads, &Retries) {
    (table.after(None).collect(), table.threads(), table.retries())
}
