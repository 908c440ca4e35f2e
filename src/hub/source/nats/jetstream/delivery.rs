//! What a message that a consumer delivers says of its place in the stream.

/// No stream gets as far. A server that says so is not believed, and no sum of sequences overflows.
pub(super) const SEQUENCE_MAX: u64 = u64::MAX >> 2;

/// The place of a message, as its reply subject tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery<'a> {
    pub(super) consumer: &'a str,
    /// The message's number in the stream.
    pub(super) stream_seq: u64,
    /// Its number among what the consumer has delivered, from 1.
    pub(super) consumer_seq: u64,
    /// When it was stored, in nanoseconds since 1970.
    pub(super) time: u64,
    /// How many the consumer has yet to deliver.
    pub(super) pending: u64,
}

impl<'a> Delivery<'a> {
    /// Reads `$JS.ACK.STREAM.CONSUMER.DELIVERED.STREAM_SEQ.CONSUMER_SEQ.TIME.PENDING`, in which two tokens more, for the domain and
    /// the account, may follow `ACK`, and then any at the end. `None`: it is another subject.
    pub(super) fn parse(reply: &'a str) -> Option<Self> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        let count = rest.split('.').count();
        let mut tokens = rest.split('.').skip(match count {
            7 => 0,
            9.. => 2,
            _ => return None,
        });
        let (_stream, consumer, _delivered) = (tokens.next()?, tokens.next()?, tokens.next()?);
        let mut number = || tokens.next()?.parse().ok();
        let delivery =
            Self { consumer, stream_seq: number()?, consumer_seq: number()?, time: number()?, pending: number()? };
        let is_sequence = |number: u64| (1..=SEQUENCE_MAX).contains(&number);
        (is_sequence(delivery.stream_seq) && is_sequence(delivery.consumer_seq)).then_some(delivery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_read() {
        let expected =
            Delivery { consumer: "C", stream_seq: 20, consumer_seq: 3, time: 1_700_000_000_000_000_001, pending: 5 };
        let check =
            |reply: &str, expected: Option<Delivery<'_>>| assert_eq!(Delivery::parse(reply), expected, "{reply}");
        check("$JS.ACK.S.C.1.20.3.1700000000000000001.5", Some(expected));
        check("$JS.ACK._.hash.S.C.1.20.3.1700000000000000001.5", Some(expected));
        check("$JS.ACK.hub.hash.S.C.1.20.3.1700000000000000001.5.random", Some(expected));
        check("$JS.ACK.S.C.1.20.3.1700000000000000001", None);
        check("$JS.ACK.S.C.1.x.3.1700000000000000001.5", None);
        check("$JS.ACK.S.C.1.20.3.99999999999999999999.5", None);
        check("$JS.ACK.S.C.1.0.3.1700000000000000001.5", None);
        check("$JS.ACK.S.C.1.20.0.1700000000000000001.5", None);
        check("$JS.ACK.S.C.1.18446744073709551615.3.1700000000000000001.5", None);
        check("$JS.ACK", None);
        check("_INBOX.x", None);
        check("", None);
    }
}
