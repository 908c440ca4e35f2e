//! Inputs out of inputs, by chance that a seed decides.

use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// Mutates seeds.
pub(crate) struct Mutator {
    random: SmallRng,
    tokens: &'static [&'static str],
}

/// Mutations that an input goes through at most.
const STEPS_MAX: u32 = 6;
/// Inputs grow no longer: enough to pass every limit that the targets set.
const INPUT_BYTES_MAX: usize = 16 * 1024;

impl Mutator {
    /// `seed` decides everything; `tokens` are what the target's language is made of.
    pub(crate) fn new(seed: u64, tokens: &'static [&'static str]) -> Self {
        Self { random: SmallRng::seed_from_u64(seed), tokens }
    }

    /// One of `seeds`, changed in a few places.
    pub(crate) fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.pick(seeds).clone();
        for _ in 0..self.random.random_range(1..=STEPS_MAX) {
            self.step(&mut input, seeds);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    fn step(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.random.random_range(0..=input.len());
        match self.random.random_range(0..9) {
            0 => self.change_byte(input, |byte, random| byte ^ (1 << random.random_range(0..8))),
            1 => self.change_byte(input, |_, random| random.random()),
            2 => self.change_byte(input, |byte, random| byte.wrapping_add(random.random_range(0..5)).wrapping_sub(2)),
            3 => input.insert(at, *self.pick(BOUNDARY_BYTES)),
            4 if !self.tokens.is_empty() => {
                let token = self.pick(self.tokens).as_bytes();
                input.splice(at..at, token.iter().copied());
            }
            5 => drop(input.drain(self.range(input.len()))),
            6 => self.repeat_range(input),
            7 => {
                let other = self.pick(seeds);
                let piece = other[self.range(other.len())].to_vec();
                input.splice(at..at, piece);
            }
            _ => input.truncate(at),
        }
    }

    fn change_byte(&mut self, input: &mut [u8], change: impl FnOnce(u8, &mut SmallRng) -> u8) {
        if !input.is_empty() {
            let at = self.random.random_range(0..input.len());
            input[at] = change(input[at], &mut self.random);
        }
    }

    /// Mostly a few times; now and then until nothing bounded can hold it.
    fn repeat_range(&mut self, input: &mut Vec<u8>) {
        let range = self.range(input.len());
        let times = if self.random.random_ratio(1, 8) { 1000 } else { self.random.random_range(1..4) };
        let piece = input[range.clone()].repeat(times.min(INPUT_BYTES_MAX / range.len().max(1)));
        input.splice(range.end..range.end, piece);
    }

    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.random.random_range(0..=len);
        start..self.random.random_range(start..=len.min(start + 64))
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.random.random_range(0..items.len())]
    }
}

/// Bytes at which parsers change their minds.
const BOUNDARY_BYTES: &[u8] = b"\0\t\n\r \"#%&+,-./09:;=AZ[]az{}\x7f\x80\xc2\xe2\xf0\xff";
