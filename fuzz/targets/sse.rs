//! Events are cut the same however the bytes are split, no byte is lost, and memory stays bounded.
//! Input: the first byte says how long the pieces are, the rest is the stream.
#![no_main]

use keyhouse::gateway::sse::{EVENT_BYTES_MAX, Event, Events};
use libfuzzer_sys::fuzz_target;

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Event>, Vec<u8>) {
    let (mut events, mut found) = (Events::default(), Vec::new());
    for piece in pieces {
        events.push(piece.to_vec().into());
        while let Some(event) = events.next_event().expect("shorter than any bound") {
            assert!(event.raw.len() <= EVENT_BYTES_MAX);
            event.data();
            found.push(event);
        }
    }
    (found, events.rest().to_vec())
}

fuzz_target!(|input: &[u8]| {
    let Some((size, stream)) = input.split_first() else { return };
    let whole = read(std::iter::once(stream));
    let split = read(stream.chunks(usize::from(*size).max(1)));
    assert_eq!(whole, split);
    let mut joined: Vec<u8> = whole.0.iter().flat_map(|event| event.raw.to_vec()).collect();
    joined.extend(whole.1);
    assert_eq!(joined, stream);
});
