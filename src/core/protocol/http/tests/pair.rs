//! Client half and server half over a link that cuts anywhere.

use proptest::prelude::*;

use super::*;

/// A request as a client writes it, and what the server should describe it as.
fn requests() -> impl Strategy<Value = (Vec<u8>, String)> {
    let method = prop_oneof![Just(Method::Get), Just(Method::Post), Just(Method::Put), Just(Method::Delete)];
    let body = proptest::collection::vec(any::<u8>(), 0..200);
    (method, "[a-z é%+]{0,12}", "[a-z &=é]{1,8}", body, any::<bool>()).prop_map(
        |(method, path, value, body, chunked)| {
            let mut target = String::from("/");
            percent_encode(&path, &mut target);
            target += "?k=";
            percent_encode(&value, &mut target);
            let mut bytes = Vec::new();
            if chunked {
                write_request(method, "a", &target, &[("Transfer-Encoding", "chunked")], b"", &mut bytes);
                let head = String::from_utf8(bytes).expect("text").replace("Content-Length: 0\r\n", "");
                bytes = head.into_bytes();
                for chunk in body.chunks(17) {
                    bytes.extend_from_slice(format!("{:x};x=y\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\nT: t\r\n\r\n");
            } else {
                write_request(method, "a", &target, &[], &body, &mut bytes);
            }
            let shown = if body.is_empty() { String::new() } else { format!(" [{}]", String::from_utf8_lossy(&body)) };
            (bytes, format!("{method} /{path} k={value}{shown}"))
        },
    )
}

/// Cuts `bytes` into pieces of the given lengths, over and over.
fn cut<'a>(bytes: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    let mut lengths = lengths.iter().cycle();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, behind) = rest.split_at(rest.len().min(*lengths.next()?));
        rest = behind;
        Some(piece)
    })
}

proptest! {
    #[test]
    fn what_is_asked_arrives_and_is_answered(
        asked in proptest::collection::vec(requests(), 1..6),
        lengths in proptest::collection::vec(1..80_usize, 1..8),
    ) {
        let sent: Vec<u8> = asked.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let (outcome, written) = serve(cut(&sent, &lengths), &HttpLimits::default());
        let expected: Vec<String> = asked.iter().map(|(_, shown)| shown.clone()).collect();
        prop_assert_eq!(&outcome, &Outcome { requests: expected, end: None });

        let mut reader = ResponseReader::new();
        let (mut body, mut ends) = (Vec::new(), 0);
        for piece in cut(&written, &lengths) {
            let received = reader.receive(piece, |part| match part {
                ResponsePart::Head(head) => assert_eq!(head.status, 200),
                ResponsePart::Body(data) => body.extend_from_slice(data),
                ResponsePart::End => ends += 1,
            });
            prop_assert_eq!(received, Ok(()));
        }
        prop_assert_eq!((ends, body), (asked.len(), b"ok".repeat(asked.len())));
        prop_assert!(reader.keeps_alive());
    }

    #[test]
    fn cuts_change_nothing(
        (bytes, _) in requests(),
        spoiled in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
        lengths in proptest::collection::vec(1..40_usize, 1..6),
    ) {
        let mut bytes = bytes;
        if let Some((at, byte)) = spoiled {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let (whole, _) = serve([bytes.as_slice()], &HttpLimits::default());
        prop_assert_eq!(&serve(cut(&bytes, &lengths), &HttpLimits::default()).0, &whole);
        prop_assert_eq!(&serve(one_by_one(&bytes), &HttpLimits::default()).0, &whole);
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = serve([bytes.as_slice()], &HttpLimits::default());
        let _ = ResponseReader::new().receive(&bytes, |_| {});
        let head = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", bytes.as_slice()].concat();
        let _ = ResponseReader::new().receive(&head, |_| {});
    }
}
