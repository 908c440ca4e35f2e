//! What is known of the cluster at present, for all threads: the map of slots, and what each pair of threads knows of its node.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crossbeam_channel::{Sender, TrySendError};

use super::slots::SlotMap;
use crate::{
    bus::Wake,
    source::redis::{NodeAddress, ServerView, error_codes::Moved},
};

/// Shared by all threads of the source.
#[derive(Debug)]
pub(in crate::source::redis) struct ClusterView {
    /// Counts changes of the map.
    changes: AtomicU64,
    /// Counts answers of the cluster, whether or not they changed the map.
    looks: AtomicU64,
    /// Whether something is not where it should be, so that the cluster is asked more often.
    is_unsettled: AtomicBool,
    state: Mutex<ViewState>,
    /// Asks the thread that watches the cluster to look at once.
    requests: Sender<()>,
}

#[derive(Debug, Default)]
struct ViewState {
    map: Arc<SlotMap>,
    /// Why nothing is known of the cluster, if so.
    problem: Option<String>,
    /// Slots that a node has said to be another's since the cluster was last begun to be asked.
    redirected: BTreeSet<u16>,
    servers: HashMap<NodeAddress, Arc<ServerView>>,
    /// Of the masters that are called by a name.
    addresses: HashMap<NodeAddress, Vec<SocketAddr>>,
    reader: Option<Arc<dyn Wake>>,
}

/// Which server of a cluster is meant.
#[derive(Clone, Debug)]
pub(in crate::source::redis) enum ClusterPlace {
    /// The one at this address.
    Node(NodeAddress),
    /// The master that has the slot at present.
    Slot(Arc<ClusterView>, u16),
    /// Any master, another one at each attempt; one of these nodes while none is known.
    AnyMaster(Arc<ClusterView>, Vec<NodeAddress>),
}

impl ClusterView {
    /// Nothing is known. `requests` wakes the thread that asks the cluster.
    pub(in crate::source::redis) fn new(requests: Sender<()>) -> Self {
        Self {
            changes: AtomicU64::new(0),
            looks: AtomicU64::new(0),
            is_unsettled: AtomicBool::new(true),
            state: Mutex::default(),
            requests,
        }
    }

    /// How often the map has changed, and how often the cluster has been asked: cheap, so it may be called at every turn.
    pub(in crate::source::redis) fn versions(&self) -> (u64, u64) {
        (self.changes.load(Ordering::Acquire), self.looks.load(Ordering::Acquire))
    }

    pub(in crate::source::redis) fn map(&self) -> Arc<SlotMap> {
        Arc::clone(&self.state().map)
    }

    /// Why nothing is known of the cluster, if so.
    pub(super) fn problem(&self) -> Option<String> {
        self.state().problem.clone()
    }

    /// The cluster is about to be asked.
    pub(super) fn begin_look(&self) {
        self.state().redirected.clear();
    }

    /// What the nodes say. It may be older than what one of them said since [`Self::begin_look`].
    pub(super) fn set_map(&self, mut map: SlotMap) {
        let mut state = self.state();
        state.problem = None;
        for slot in &state.redirected {
            if let Some(owner) = state.map.owner(*slot) {
                map.assign(*slot, owner.clone());
            }
        }
        if *state.map != map {
            // What is known of a server that is gone is of no more use once no thread needs it.
            state.servers.retain(|node, server| map.nodes().contains(node) || 1 < Arc::strong_count(server));
            state.map = Arc::new(map);
            self.changes.fetch_add(1, Ordering::Release);
        }
        self.looks.fetch_add(1, Ordering::Release);
        wake(state);
    }

    /// What the names of masters lead to. A name that cannot be looked up at present leads to where it led.
    pub(super) fn set_addresses(&self, found: HashMap<NodeAddress, Vec<SocketAddr>>) {
        self.state().addresses = found;
    }

    /// Where a master is. Never waits: a name has been looked up before, or is soon.
    pub(in crate::source::redis) fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let node = NodeAddress { host: host.to_owned(), port };
        let known = self.state().addresses.get(&node).cloned();
        known.ok_or_else(|| io::Error::other(format!("the name `{host}` could not be looked up yet")))
    }

    /// No node could say anything. What was known stays.
    pub(super) fn set_problem(&self, problem: String) {
        let mut state = self.state();
        state.problem = Some(problem);
        self.looks.fetch_add(1, Ordering::Release);
        wake(state);
    }

    /// The node at `by` says that another one has a slot. It is believed once until the cluster is asked, which is at once: two nodes
    /// that each name the other must not keep the hub busy.
    pub(in crate::source::redis) fn redirect(&self, moved: &Moved, by: &NodeAddress) {
        let host = if moved.host.is_empty() { &by.host } else { &moved.host };
        let node = NodeAddress { host: host.clone(), port: moved.port };
        let mut state = self.state();
        if state.redirected.insert(moved.slot) && Arc::make_mut(&mut state.map).assign(moved.slot, node) {
            self.changes.fetch_add(1, Ordering::Release);
        }
        wake(state);
        self.request_look();
    }

    /// Asks the cluster soon.
    pub(in crate::source::redis) fn request_look(&self) {
        match self.requests.try_send(()) {
            // One request is as good as two, and at the end nobody is asked.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }

    /// Whether something is not where it should be.
    pub(in crate::source::redis) fn set_unsettled(&self, is_unsettled: bool) {
        if self.is_unsettled.swap(is_unsettled, Ordering::AcqRel) != is_unsettled && is_unsettled {
            self.request_look();
        }
    }

    pub(super) fn is_unsettled(&self) -> bool {
        self.is_unsettled.load(Ordering::Acquire)
    }

    /// What the threads for `node` know of it.
    pub(super) fn server(&self, node: &NodeAddress) -> Arc<ServerView> {
        let mut state = self.state();
        let reader = state.reader.clone();
        let server = state.servers.entry(node.clone()).or_default();
        reader.into_iter().for_each(|reader| server.set_reader(reader));
        Arc::clone(server)
    }

    /// Sets what wakes the reader.
    pub(in crate::source::redis) fn set_reader(&self, reader: Arc<dyn Wake>) {
        let mut state = self.state();
        state.servers.values().for_each(|server| server.set_reader(Arc::clone(&reader)));
        state.reader = Some(reader);
    }

    fn state(&self) -> MutexGuard<'_, ViewState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the reader, and not under the lock.
fn wake(state: MutexGuard<'_, ViewState>) {
    let reader = state.reader.clone();
    drop(state);
    reader.into_iter().for_each(|reader| reader.wake());
}

impl ClusterPlace {
    /// The address. `turn` counts the attempts.
    pub(in crate::source::redis) fn find(&self, turn: usize) -> Result<NodeAddress, String> {
        match self {
            Self::Node(node) => Ok(node.clone()),
            Self::Slot(view, slot) => {
                let map = view.map();
                view.request_look();
                let problem = || view.problem().unwrap_or_else(|| format!("no node has slot {slot}"));
                map.owner(*slot).cloned().ok_or_else(problem)
            }
            Self::AnyMaster(view, named) => {
                let map = view.map();
                let masters = map.masters();
                let known = if masters.is_empty() { named.iter().collect() } else { masters };
                let chosen = turn.checked_rem(known.len()).and_then(|index| known.get(index));
                chosen.map(|node| (*node).clone()).ok_or_else(|| "no node is named".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    fn node(port: u16) -> NodeAddress {
        NodeAddress { host: "h".to_owned(), port }
    }

    fn moved(slot: u16, host: &str, port: u16) -> Moved {
        Moved { slot, host: host.to_owned(), port }
    }

    #[test]
    fn a_node_is_believed_once_until_the_cluster_is_asked() {
        let (requests, requested) = bounded(1);
        let view = ClusterView::new(requests);
        let check = |told: Moved, owner: u16, changes: u64| {
            let slot = told.slot;
            view.redirect(&told, &node(9));
            assert_eq!(view.map().owner(slot), Some(&node(owner)), "{told:?}");
            assert_eq!(view.versions().0, changes, "{told:?}");
            assert_eq!(requested.try_recv(), Ok(()), "the cluster is asked");
        };
        check(moved(1, "h", 7), 7, 1);
        check(moved(1, "h", 8), 7, 1);
        check(moved(2, "", 8), 8, 2);
        let mut map = SlotMap::default();
        map.assign(1, node(5));
        view.begin_look();
        view.set_map(map.clone());
        assert_eq!((view.map().owner(1), view.versions()), (Some(&node(5)), (3, 1)));
        view.set_map(map);
        assert_eq!(view.versions(), (3, 2), "no change");
        view.begin_look();
        check(moved(1, "h", 8), 8, 4);
        let mut map = SlotMap::default();
        assert!(map.assign(1, node(5)) && map.assign(2, node(6)));
        view.set_map(map);
        assert_eq!(view.map().owner(1), Some(&node(8)), "a node said so after the cluster was asked");
        assert_eq!(view.map().owner(2), Some(&node(6)));
        view.begin_look();
        view.set_map(SlotMap::default());
        assert_eq!(view.map().owner(1), None);
    }

    #[test]
    fn a_server_that_is_gone_is_forgotten() {
        let view = ClusterView::new(bounded(1).0);
        let used = view.server(&node(0));
        for port in 1..=100 {
            let mut map = SlotMap::default();
            assert!(map.assign(1, node(port)));
            drop(view.server(&node(port)));
            view.set_map(map);
        }
        assert_eq!(view.state().servers.len(), 2, "the present one, and one that a thread still needs");
        drop(used);
    }

    #[test]
    fn names_are_looked_up_elsewhere() {
        let view = ClusterView::new(bounded(1).0);
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert_eq!(view.addresses("::1", 7).expect("it is no name"), [address("[::1]:7")]);
        assert!(view.addresses("h", 7).is_err_and(|error| error.to_string().contains("`h`")));
        view.set_addresses(HashMap::from([(node(7), vec![address("10.0.0.1:7")])]));
        assert_eq!(view.addresses("h", 7).expect("it was looked up"), [address("10.0.0.1:7")]);
    }

    #[test]
    fn places() {
        let view = Arc::new(ClusterView::new(bounded(1).0));
        let slot = ClusterPlace::Slot(Arc::clone(&view), 3);
        let any = ClusterPlace::AnyMaster(Arc::clone(&view), vec![node(8), node(9)]);
        let of_turns = || [0, 1, 2].map(|turn| any.find(turn).expect("there is one").port);
        assert_eq!(of_turns(), [8, 9, 8]);
        assert_eq!(slot.find(0), Err("no node has slot 3".to_owned()));
        view.set_problem("nobody answers".to_owned());
        assert_eq!(slot.find(0), Err("nobody answers".to_owned()));
        let mut map = SlotMap::default();
        assert!(map.assign(3, node(1)) && map.assign(4, node(2)));
        view.set_map(map);
        assert_eq!(slot.find(0), Ok(node(1)));
        assert_eq!(of_turns(), [1, 2, 1]);
    }
}
