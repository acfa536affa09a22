//! Charges: the usage log. Rows are written by the ledger alone; everybody else reads.
