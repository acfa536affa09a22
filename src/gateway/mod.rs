//! `/v1`: authenticate → admit → hold → relay → meter → settle, and the error bodies that SDKs understand.
