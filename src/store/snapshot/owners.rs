//! The list of threads that a snapshot names by their position, on both sides.

use std::collections::HashMap;

use prost::Message;

use crate::domain::id::Owner;
use crate::domain::limits::OWNERS_LISTED_MAX;
use crate::domain::table::SessionTable;
use crate::proto::storage as pb;
use crate::store::record::{self, Undecodable};
use crate::store::snapshot::decode::Damage;

/// What a message takes beside its own bytes: its tag and its length.
pub(super) const LENGTH_BYTES_MAX: usize = 4;

/// Threads that the snapshot has listed. Whatever is of one thread shares its handle, and a handle is
/// known by where it is: a thread with two handles is listed twice, which does no harm.
#[derive(Default)]
pub(super) struct Listing {
    known: HashMap<usize, (u32, Owner)>,
    /// Those that the next frame lists.
    new: Vec<pb::Owner>,
    /// How many bytes that takes.
    bytes: usize,
}

impl Listing {
    /// A frame begins: how many threads were listed before it. The list begins anew when it is long.
    pub(super) fn before_frame(&mut self) -> u32 {
        if self.known.len() > OWNERS_LISTED_MAX {
            *self = Self::default();
        }
        self.count()
    }

    fn count(&self) -> u32 {
        u32::try_from(self.known.len()).expect("the list is begun anew before")
    }

    /// How many bytes those take that the next frame lists.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The position of a thread, which is listed if it is not yet.
    pub(super) fn position(&mut self, owner: &Owner) -> u32 {
        let next = self.count();
        // The handle is kept, so that nobody else comes to be where it is.
        let (position, _) = self.known.entry(owner.address()).or_insert_with(|| {
            let message = pb::Owner::from(owner);
            self.bytes += message.encoded_len() + LENGTH_BYTES_MAX;
            self.new.push(message);
            (next, owner.clone())
        });
        *position
    }

    /// The threads that this frame lists.
    pub(super) fn take(&mut self) -> Vec<pb::Owner> {
        self.bytes = 0;
        std::mem::take(&mut self.new)
    }
}

/// Threads that have been read, by their position.
#[derive(Debug, Default)]
pub(super) struct Listed(Vec<Owner>);

impl Listed {
    /// Takes the threads that a frame lists.
    pub(super) fn extend(
        &mut self,
        before: u32,
        owners: Vec<pb::Owner>,
        table: &mut SessionTable,
    ) -> Result<(), Damage> {
        if before == 0 {
            self.0.clear();
        } else if usize::try_from(before) != Ok(self.0.len()) {
            return Err(Damage::Contradiction);
        }
        for owner in owners {
            self.0.push(table.share(&record::owner(owner)?));
        }
        Ok(())
    }

    /// The thread at a position.
    pub(super) fn at(&self, position: u32) -> Result<Owner, Undecodable> {
        let owner = usize::try_from(position).ok().and_then(|position| self.0.get(position));
        owner.cloned().ok_or(Undecodable::Field("owner"))
    }
}
