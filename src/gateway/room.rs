//! Room that all share and of which no account may take more than its part: for large bodies, and for forms.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So much room there is.
pub struct Room {
    all: usize,
    /// For one account.
    each: usize,
    taken: Mutex<Takings>,
}

struct Takings {
    all: usize,
    /// By account; none that has nothing.
    each: BTreeMap<i64, usize>,
}

/// What somebody took of a room; it is free again when this is dropped.
pub struct Taken {
    room: &'static Room,
    user_id: i64,
    amount: usize,
}

impl Room {
    /// Empty.
    pub const fn new(all: usize, each: usize) -> Self {
        Self { all, each, taken: Mutex::new(Takings { all: 0, each: BTreeMap::new() }) }
    }

    /// Takes room for an account. `None`: there is not so much left, for all or for it.
    pub fn take(&'static self, user_id: i64, amount: usize) -> Option<Taken> {
        let mut taken = self.lock();
        let of_user = taken.each.get(&user_id).copied().unwrap_or(0);
        if taken.all + amount > self.all || of_user + amount > self.each {
            return None;
        }
        taken.all += amount;
        taken.each.insert(user_id, of_user + amount);
        Some(Taken { room: self, user_id, amount })
    }

    fn lock(&self) -> MutexGuard<'_, Takings> {
        // Sums of numbers, whole after each line.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Takes more. `false`: there is not so much left.
    pub fn grow(&mut self, amount: usize) -> bool {
        match self.room.take(self.user_id, amount) {
            None => false,
            Some(mut more) => {
                self.amount += std::mem::take(&mut more.amount);
                true
            }
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut taken = self.room.lock();
        taken.all -= self.amount;
        let left = taken.each.get(&self.user_id).copied().unwrap_or(0).saturating_sub(self.amount);
        match left {
            0 => drop(taken.each.remove(&self.user_id)),
            left => drop(taken.each.insert(self.user_id, left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_their_part_and_all_no_more_than_there_is() {
        static ROOM: Room = Room::new(10, 6);
        let mut one = ROOM.take(1, 4).expect("room");
        assert!(one.grow(2) && !one.grow(1));
        assert!(ROOM.take(1, 1).is_none(), "its part is taken");
        let other = ROOM.take(2, 4).expect("room");
        assert!(ROOM.take(3, 1).is_none(), "all is taken");
        drop(one);
        assert!(ROOM.take(2, 3).is_none() && ROOM.take(3, 6).is_some());
        drop(other);
        let taken = ROOM.lock();
        assert!(taken.all == 0 && taken.each.is_empty());
    }
}
