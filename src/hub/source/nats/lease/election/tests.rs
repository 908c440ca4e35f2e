use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::*;
use crate::tests::{FormKind, check_forms, part, text};

const MILLISECOND: u64 = 1_000_000;
/// How long the lease lasts, in milliseconds.
const LASTS: u64 = 1000;

fn at(milliseconds: u64) -> Moment {
    Moment(milliseconds * MILLISECOND)
}

#[test]
fn statements_are_read_as_they_are_written() {
    for word in [Word::Wait, Word::Claim, Word::Hold, Word::Gone] {
        let statement = Statement { id: u128::MAX - 7, number: u64::MAX, word };
        assert_eq!(statement.to_string().parse(), Ok(statement));
    }
    let newer = "fanfare-lease 7 8 hold and more of a later version".parse();
    assert_eq!(newer, Ok(Statement { id: 7, number: 8, word: Word::Hold }));
    for text in
        ["", "fanfare-lease", "fanfare-lease x 1 hold", "fanfare-lease 1 x hold", "fanfare-lease 1 1 x", "a 1 1 hold"]
    {
        assert_eq!(text.parse::<Statement>(), Err(()), "{text}");
    }
}

/// Candidates may be hubs of several releases.
#[test]
fn the_forms_of_statements_are_kept() {
    let words =
        [("to stand by", Word::Wait), ("to claim", Word::Claim), ("to hold", Word::Hold), ("to leave", Word::Gone)];
    let statement = |word| Statement { id: u128::MAX - 7, number: 8, word };
    let written = words.map(|(name, word)| (name, part(statement(word).to_string()))).to_vec();
    let read = |parts: &[Vec<u8>]| {
        let Statement { id, number, word } = text(parts).parse().expect("a statement");
        format!("candidate {id:x}, number {number}: {word:?}")
    };
    let later = |parts: &mut Vec<Vec<u8>>| parts[0].extend_from_slice(b" and more");
    check_forms(&FormKind { name: "nats-lease-statements", written, read: &read, extend: Some(&later) });
}

/// A server and its candidates: what is sent arrives late, in the order of each connection.
struct Network {
    candidates: Vec<Candidate>,
    /// What the server has passed on so far.
    random: SmallRng,
    /// How late a message may be, in milliseconds.
    late_max: u64,
}

struct Candidate {
    election: Election,
    /// On their way to the server, and from it, with the time of arrival.
    to_server: VecDeque<(u64, Statement)>,
    from_server: VecDeque<(u64, Statement)>,
    /// Until when its process stands still.
    asleep_until: u64,
    is_dead: bool,
}

impl Candidate {
    fn new(id: u128, now: u64) -> Self {
        let mut election = Election::new(id, Duration::from_millis(LASTS));
        election.on_connected(at(now));
        Self { election, to_server: VecDeque::new(), from_server: VecDeque::new(), asleep_until: 0, is_dead: false }
    }

    fn has_lease(&self, now: u64) -> bool {
        // A process that stands still does nothing with it.
        !self.is_dead && self.asleep_until <= now && at(now) < self.election.held_until()
    }
}

impl Network {
    fn new(seed: u64, candidates: usize, late_max: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let candidates = (0..candidates).map(|_| Candidate::new(random.random(), 0)).collect();
        Self { candidates, random, late_max }
    }

    fn arrival(random: &mut SmallRng, late_max: u64, queue: &VecDeque<(u64, Statement)>, now: u64) -> u64 {
        let arrives = now + random.random_range(0..=late_max);
        queue.back().map_or(arrives, |(last, _)| arrives.max(*last))
    }

    /// One millisecond.
    fn step(&mut self, now: u64) {
        let Self { candidates, random, late_max } = self;
        for candidate in candidates.iter_mut().filter(|candidate| !candidate.is_dead && candidate.asleep_until <= now) {
            // What a process has slept through it reads later than it speaks.
            if let Some(statement) = candidate.election.speak(at(now)) {
                let arrives = Self::arrival(random, *late_max, &candidate.to_server, now);
                candidate.to_server.push_back((arrives, statement));
            }
            while let Some((_, statement)) = candidate.from_server.pop_front_if(|(arrives, _)| *arrives <= now) {
                candidate.election.hear(statement, at(now));
            }
        }
        let mut passed = Vec::new();
        for candidate in candidates.iter_mut() {
            while let Some((_, statement)) = candidate.to_server.pop_front_if(|(arrives, _)| *arrives <= now) {
                passed.push(statement);
            }
        }
        for statement in passed {
            for candidate in candidates.iter_mut() {
                let arrives = Self::arrival(random, *late_max, &candidate.from_server, now);
                candidate.from_server.push_back((arrives, statement));
            }
        }
    }

    /// The one that has the lease.
    #[track_caller]
    fn holder(&self, now: u64, seed: u64) -> Option<usize> {
        let holders: Vec<usize> =
            (0..self.candidates.len()).filter(|index| self.candidates[*index].has_lease(now)).collect();
        assert!(holders.len() <= 1, "{holders:?} have it at {now} ms, seed {seed}");
        holders.first().copied()
    }
}

/// Messages that are late by far more than the lease lasts, and processes that stand still: no two have the lease at a time.
#[test]
fn no_two_have_the_lease() {
    for seed in 0..160 {
        let mut random = SmallRng::seed_from_u64(seed);
        let late_max = [1, 50, 300, 1500][seed as usize % 4];
        let mut network = Network::new(seed, 2 + seed as usize % 3, late_max);
        for now in 0..10_000 {
            if random.random_ratio(1, 700) {
                let index = random.random_range(0..network.candidates.len());
                network.candidates[index].asleep_until = now + random.random_range(0..3000);
            }
            if random.random_ratio(1, 2000) {
                let index = random.random_range(0..network.candidates.len());
                network.candidates[index] = Candidate::new(random.random(), now);
            }
            network.step(now);
            network.holder(now, seed);
        }
    }
}

/// While messages come in time somebody has it, keeps it, and is followed by another one once it is dead.
#[test]
fn the_lease_passes_on() {
    for seed in 0..100 {
        let mut network = Network::new(seed, 3, 50);
        let (mut holder, mut since) = (None, 0);
        for now in 0..20_000 {
            network.step(now);
            let found = network.holder(now, seed);
            if found.is_some() && holder.is_none() {
                (holder, since) = (found, now);
            } else if found.is_none() && holder.is_none() {
                assert!(now < since + 2 * LASTS, "nobody has it at {now} ms, seed {seed}");
            } else {
                assert_eq!(found, holder, "at {now} ms, seed {seed}");
            }
            if now % 5000 == 4999
                && let Some(index) = holder.take()
            {
                since = now;
                network.candidates[index].is_dead = true;
                // Another process in its place, which waits its turn.
                let newcomer = Candidate::new(u128::from(now), now);
                network.candidates.push(newcomer);
            }
        }
    }
}

/// Whoever ends gives it back, so that the next one need not wait for so long.
#[test]
fn what_is_given_back_is_taken_at_once() {
    let mut network = Network::new(1, 2, 0);
    let run = |network: &mut Network, from: u64| {
        (from..from + 5000).find_map(|now| {
            network.step(now);
            network.holder(now, 1).map(|holder| (now, holder))
        })
    };
    let (now, first) = run(&mut network, 0).expect("one of them has it");
    assert!((LASTS..2 * LASTS).contains(&now), "{now}");
    let gone = network.candidates[first].election.leave(at(now)).expect("it had it");
    network.candidates[first].to_server.push_back((now, gone));
    network.candidates[first].is_dead = true;
    let (later, second) = run(&mut network, now).expect("the other one has it");
    assert!(second != first && later <= now + LASTS / 4, "{second} at {later} ms, {first} at {now} ms");
}

/// In a cluster two may claim it in different orders. Once they hear each other, one has it.
#[test]
fn of_two_holders_one_gives_way() {
    let mut elections = [1, 2].map(|id| Election::new(id, Duration::from_millis(LASTS)));
    for election in &mut elections {
        election.on_connected(at(0));
        for now in (0..=LASTS + 200).step_by(10) {
            if let Some(own) = election.speak(at(now)) {
                election.hear(own, at(now));
            }
        }
        assert!(at(LASTS + 200) < election.held_until());
    }
    let [one, two] = &mut elections;
    let spoken = [two.speak(at(1400)), one.speak(at(1400))].map(|said| said.expect("it is time"));
    assert_eq!(spoken.map(|said| said.word), [Word::Hold; 2]);
    one.hear(spoken[0], at(1401));
    two.hear(spoken[1], at(1401));
    assert_eq!([at(1401) < one.held_until(), at(1401) < two.held_until()], [true, false]);
}

/// Who stands by sees as well whether its connection is of use.
#[test]
fn a_connection_is_heard_or_silent() {
    let mut election = Election::new(1, Duration::from_millis(LASTS));
    for connected in [0, 10_000] {
        election.on_connected(at(connected));
        let seen = |election: &Election, after| (election.is_heard(), election.is_silent(at(connected + after)));
        assert_eq!((seen(&election, LASTS - 1), seen(&election, LASTS)), ((false, false), (false, true)));
        let own = election.speak(at(connected + 100)).expect("it is time");
        election.hear(Statement { id: 2, number: 1, word: Word::Hold }, at(connected + 105));
        assert!(!election.is_heard(), "another one's message proves nothing of its own");
        election.hear(own, at(connected + 110));
        assert_eq!((seen(&election, LASTS + 99), seen(&election, LASTS + 100)), ((true, false), (true, true)));
    }
}
