use super::{MessageView, Time};
use crate::id::UnixMillis;

#[test]
fn times_are_rfc_3339() {
    let time = Time(UnixMillis(1_795_332_601_009));
    let json = serde_json::to_string(&time).unwrap();
    assert_eq!(json, "\"2026-11-22T07:30:01.009Z\"");
    assert_eq!(serde_json::from_str::<Time>(&json).unwrap(), time);
    // What a device claims may be beyond every calendar.
    assert!(Time(UnixMillis(i64::MAX)).to_string().starts_with("9999-"));
    assert!(Time(UnixMillis(i64::MIN)).to_string().starts_with("-009999-"));
}

#[test]
fn bodies_are_text_or_base64() {
    assert_eq!(MessageView::body_fields(b"hello".to_vec()), (Some("hello".to_owned()), None));
    assert_eq!(MessageView::body_fields(vec![0xff, 0]), (None, Some("/wA=".to_owned())));
}
