//! What is a text is what the standard library says, without control characters.

use std::{string::String, vec::Vec};

use proptest::prelude::*;

use super::*;

fn is_text_by_the_library(bytes: &[u8]) -> bool {
    core::str::from_utf8(bytes).is_ok_and(|text| !text.contains(char::is_control))
}

proptest! {
    #[test]
    fn any_bytes(bytes: Vec<u8>) {
        prop_assert_eq!(is_text(&bytes), is_text_by_the_library(&bytes));
    }

    #[test]
    fn any_text(text: String) {
        prop_assert_eq!(is_text(text.as_bytes()), is_text_by_the_library(text.as_bytes()));
    }
}

#[test]
fn all_characters_and_all_sequences_of_three_bytes() {
    for character in '\0'..=char::MAX {
        let mut buffer = [0; 4];
        let bytes = character.encode_utf8(&mut buffer).as_bytes();
        assert_eq!(is_text(bytes), !character.is_control(), "{character:?}");
    }
    for number in 0..1_u32 << 24 {
        let [_, bytes @ ..] = number.to_be_bytes();
        assert_eq!(is_text(&bytes), is_text_by_the_library(&bytes), "{bytes:x?}");
    }
}
