//! Who has the lease. No I/O.
//!
//! All candidates publish to one subject, and hear each other and themselves there. A server passes messages on in the order in which
//! they came, so a candidate that has heard its own message has heard everything that was published before it. Whoever has heard no
//! holder for as long as the lease lasts *claims* it, and has it once it hears its own claim and no other one before. It has it for
//! four fifths of that time from when it sent the last message that it has heard itself: so it is over before another one claims.
//!
//! On one server no two candidates have the lease at a time, however late messages come. In a cluster, where servers may pass on two
//! claims in different orders, two may have it until they hear each other; then the lesser id keeps it.

use std::{collections::VecDeque, fmt, str::FromStr, time::Duration};

use crate::clock::Moment;

/// A candidate says something so many times while a lease lasts.
const MESSAGES_PER_LEASE: u32 = 5;

/// More that have not come back are forgotten: they would prove nothing any more.
const UNHEARD_MAX: usize = 2 * MESSAGES_PER_LEASE as usize;

/// What a candidate says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It stands by.
    Wait,
    /// It has heard no holder for long enough.
    Claim,
    /// It has the lease.
    Hold,
    /// It had the lease, and gives it back.
    Gone,
}

/// A message of a candidate, in text `fanfare-lease ID NUMBER WORD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) id: u128,
    pub(super) number: u64,
    pub(super) word: Word,
}

/// One candidate's view.
#[derive(Debug)]
pub(super) struct Election {
    id: u128,
    lasts: Duration,
    role: Role,
    /// Since when everything is heard; `None`: nothing has come back on this connection.
    listens_since: Option<Moment>,
    /// When another candidate last said that it has the lease, or claimed it.
    other_heard: Option<Moment>,
    /// Own messages that have not come back, and when they were sent.
    unheard: VecDeque<(u64, Moment)>,
    /// When the newest one that has come back was sent.
    proven: Moment,
    number: u64,
    /// When to say something again.
    due: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Waiting,
    /// By the messages from this number on, none of which has come back.
    Claiming(u64),
    Holding,
}

impl Election {
    pub(super) fn new(id: u128, lasts: Duration) -> Self {
        Self {
            id,
            lasts,
            role: Role::Waiting,
            listens_since: None,
            other_heard: None,
            unheard: VecDeque::new(),
            proven: Moment(0),
            number: 0,
            due: Moment(0),
        }
    }

    /// A connection was made, and subscribed. What others said meanwhile was not heard.
    pub(super) fn on_connected(&mut self, now: Moment) {
        (self.role, self.listens_since, self.other_heard) = (Role::Waiting, None, None);
        self.unheard.clear();
        // Silence counts from here.
        (self.proven, self.due) = (now, now);
    }

    /// Until when this candidate has the lease.
    pub(super) fn held_until(&self) -> Moment {
        if self.role == Role::Holding { self.proven + self.safe_span() } else { Moment(0) }
    }

    /// When to say something next.
    pub(super) fn due(&self) -> Moment {
        self.due
    }

    /// Whether something of its own has come back on this connection.
    pub(super) fn is_heard(&self) -> bool {
        self.listens_since.is_some()
    }

    /// Whether nothing of its own has come back for so long that the connection is of no use.
    pub(super) fn is_silent(&self, now: Moment) -> bool {
        self.proven + self.lasts <= now
    }

    /// What to say now, if it is time.
    pub(super) fn speak(&mut self, now: Moment) -> Option<Statement> {
        if now < self.due {
            return None;
        }
        self.lapse(now);
        self.due = now + self.lasts / MESSAGES_PER_LEASE;
        self.number += 1;
        let has_waited = |since: Option<Moment>| since.is_some_and(|since| since + self.lasts <= now);
        let is_free = self.other_heard.is_none() || has_waited(self.other_heard);
        let word = match self.role {
            Role::Holding => Word::Hold,
            Role::Claiming(_) => Word::Claim,
            Role::Waiting if has_waited(self.listens_since) && is_free => {
                self.role = Role::Claiming(self.number);
                Word::Claim
            }
            Role::Waiting => Word::Wait,
        };
        self.unheard.push_back((self.number, now));
        if UNHEARD_MAX < self.unheard.len() {
            self.unheard.pop_front();
        }
        Some(Statement { id: self.id, number: self.number, word })
    }

    /// What to say at the end; `None`: there is nothing to give back.
    pub(super) fn leave(&mut self, now: Moment) -> Option<Statement> {
        self.lapse(now);
        let had_it = std::mem::replace(&mut self.role, Role::Waiting) == Role::Holding;
        self.number += 1;
        had_it.then_some(Statement { id: self.id, number: self.number, word: Word::Gone })
    }

    /// Takes what a candidate said, this one included.
    pub(super) fn hear(&mut self, statement: Statement, now: Moment) {
        self.lapse(now);
        if statement.id == self.id {
            self.hear_itself(statement.number, now);
        } else {
            self.hear_other(statement, now);
        }
    }

    fn hear_itself(&mut self, number: u64, now: Moment) {
        self.listens_since.get_or_insert(now);
        while let Some((heard, sent)) = self.unheard.pop_front_if(|(heard, _)| *heard <= number) {
            if heard == number {
                self.proven = sent;
                if matches!(self.role, Role::Claiming(first) if first <= number) {
                    self.role = Role::Holding;
                }
            }
        }
        // It may have come so late that it proves nothing.
        self.lapse(now);
    }

    fn hear_other(&mut self, statement: Statement, now: Moment) {
        match (statement.word, self.role) {
            (Word::Wait, _) => return,
            (Word::Gone, _) => {
                self.other_heard = None;
                return;
            }
            // It will hear of this one.
            (Word::Claim, Role::Holding) => {
                self.due = now;
                return;
            }
            (Word::Hold, Role::Holding) if self.id < statement.id => {
                self.due = now;
                return;
            }
            _ => self.role = Role::Waiting,
        }
        self.other_heard = Some(now);
    }

    /// Whoever was cut off for too long is a newcomer.
    fn lapse(&mut self, now: Moment) {
        if self.role == Role::Holding && self.held_until() <= now {
            self.role = Role::Waiting;
            self.listens_since = self.listens_since.map(|_| now);
        }
    }

    fn safe_span(&self) -> Duration {
        self.lasts.mul_f64(0.8)
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, number, word } = self;
        let word = match word {
            Word::Wait => "wait",
            Word::Claim => "claim",
            Word::Hold => "hold",
            Word::Gone => "gone",
        };
        write!(f, "fanfare-lease {id:032x} {number} {word}")
    }
}

impl FromStr for Statement {
    type Err = ();

    /// Words behind the fourth one are of later versions.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split(' ');
        let mut next = || words.next().ok_or(());
        if next()? != "fanfare-lease" {
            return Err(());
        }
        let id = u128::from_str_radix(next()?, 16).map_err(drop)?;
        let number = next()?.parse().map_err(drop)?;
        let word = match next()? {
            "wait" => Word::Wait,
            "claim" => Word::Claim,
            "hold" => Word::Hold,
            "gone" => Word::Gone,
            _ => return Err(()),
        };
        Ok(Self { id, number, word })
    }
}

#[cfg(test)]
mod tests;
