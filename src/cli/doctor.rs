//! `keyhouse doctor`: proves the laws on the stored data.

use super::data::Context;
use super::failure::Failure;
use super::output;
use crate::store::doctor::{self, Diagnosis};
use clap::Args;
use serde::Serialize;

/// Prove that every credit is accounted for: balances, keys, holds and charges against each other
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  keyhouse doctor\n  keyhouse doctor --json | jq .breaches")]
pub(super) struct DoctorOptions {}

#[derive(Serialize)]
struct DiagnosisView {
    accounts: i64,
    keys: i64,
    charges: i64,
    open_holds: i64,
    breaches: Vec<BreachView>,
}

#[derive(Serialize)]
struct BreachView {
    subject: String,
    rule: &'static str,
    stored: String,
    proven: String,
}

impl From<&Diagnosis> for DiagnosisView {
    fn from(diagnosis: &Diagnosis) -> Self {
        let breaches = diagnosis.breaches.iter().map(|breach| BreachView {
            subject: breach.subject.clone(),
            rule: breach.rule,
            stored: breach.stored.to_string(),
            proven: breach.proven.to_string(),
        });
        Self {
            accounts: diagnosis.accounts,
            keys: diagnosis.keys,
            charges: diagnosis.charges,
            open_holds: diagnosis.open_holds,
            breaches: breaches.collect(),
        }
    }
}

/// Examines one snapshot of the data, also beside a running server. Fails when a law is broken.
pub(super) fn run(_: &DoctorOptions, context: &Context) -> Result<(), Failure> {
    let diagnosis = context.with(|connection, _| doctor::examine(connection))?;
    if context.output.json {
        context.output.document(&DiagnosisView::from(&diagnosis))?;
    } else {
        let lines: Vec<String> = diagnosis.breaches.iter().map(ToString::to_string).collect();
        let Diagnosis { accounts, keys, charges, open_holds, .. } = diagnosis;
        let examined = format!(
            "Examined accounts: {accounts}, keys: {keys}, charges: {charges}, of them open holds: {open_holds}."
        );
        output::print(&lines.into_iter().chain([examined]).collect::<Vec<_>>().join("\n"))?;
    }
    match diagnosis.breaches.len() {
        0 => Ok(()),
        count => Err(Failure::Failed(format!(
            "Breaches found: {count}. Keep a copy of the database as it is before changing anything."
        ))),
    }
}
