//! Control messages between host and guest: what is read can be written and read again.

use mvm_wire::Message;
use mvm_wire::message::Decoded;

/// Reads the input as one message.
pub fn body(data: &[u8]) {
    match Message::decode(data) {
        Ok(Decoded::Message(message)) => match Message::decode(&message.encode()) {
            Ok(Decoded::Message(again)) => {
                assert_eq!(again, message);
                assert_eq!(again.encode(), message.encode());
            }
            other => panic!("{message:?} became {other:?}"),
        },
        Ok(Decoded::Unsupported { failure, .. }) => {
            assert!(failure.message.chars().count() <= 512, "{} bytes", failure.message.len());
        }
        Err(error) => drop(error.to_string()),
    }
}
