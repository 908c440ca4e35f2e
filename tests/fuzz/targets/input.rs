//! An input, taken apart.

/// The knobs, and the bytes that are to be tried.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    /// Chooses limits.
    pub(super) knob: u8,
    /// Chooses where the payload is cut.
    pub(super) cut: u8,
    /// What is tried.
    pub(super) payload: &'a [u8],
}

impl<'a> Input<'a> {
    /// `None` if there is nothing to try.
    pub(super) fn split(data: &'a [u8]) -> Option<Self> {
        let [knob, cut, payload @ ..] = data else { return None };
        Some(Self { knob: *knob, cut: *cut, payload })
    }

    /// The payload in pieces.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        cut(self.payload, self.cut)
    }

    /// `bytes` in pieces.
    pub(super) fn cut<'b>(&self, bytes: &'b [u8]) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        cut(bytes, self.cut)
    }
}

/// The longest piece that [`cut`] makes.
pub(super) const PIECE_BYTES_MAX: usize = 64;

/// `how` as an ASCII digit: pieces of so many bytes, `0` standing for 1. Anything else: pieces of all lengths.
fn cut(bytes: &[u8], how: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    let mut state = u32::from(how);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = if how.is_ascii_digit() {
            usize::from(how - b'0').max(1)
        } else {
            // A linear congruential generator; its high bits are the good ones.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            1 + (state >> 16) as usize % (PIECE_BYTES_MAX >> (state >> 30))
        };
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        rest = behind;
        Some(piece)
    })
}

/// What `run` holds in the heap at most, in bytes.
pub(super) fn peak_bytes(run: impl FnOnce()) -> usize {
    usize::try_from(allocation_counter::measure(run).bytes_max).expect("memory is finite")
}
